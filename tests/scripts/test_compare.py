import math

import numpy as np
import pytest

from configs.experiment import to_json
from configs.presets import preset
from configs.tree import override
from scripts import compare
from tests.scripts.test_report import make_run


def run(path, level, slope=0.0, meta=True, points=10, **settings):
    """A run whose return is `level` + `slope` a log point of 100 frames."""
    lines = [
        {"inner_updates": i, "env_frames": 100 * i, "episode_return_mean": level + slope * i if i > 1 else math.nan}
        | ({"meta/gamma": 0.9} if meta else {})
        for i in range(1, points + 1)
    ]
    return str(make_run(path, lines, to_json(override(preset("smoke"), settings))))


def test_runs_that_differ_by_seed_are_one_line_with_an_interval(tmp_path, capsys):
    seeds = [run(tmp_path / f"stac{seed}", level, seed=seed) for seed, level in enumerate((1.0, 2.0, 3.0))]
    wide = run(tmp_path / "wide", 0.0, slope=0.1, window=8, seed=5)
    settings = {"agent": "impala", "correction": 0.0, "meta_gradient.objective": "same"}
    fixed = run(tmp_path / "impala", -1.0, meta=False, points=4, **settings)
    out = tmp_path / "all.png"
    assert compare.main([*seeds, wide, fixed, "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    # Student's t of three values that are one apart: 4.303 / √3.
    assert said == [
        "stac, --window 4: episode_return_mean 2 [-0.4841, 4.484] after 1,000 frames, 3 runs",
        "stac, --window 8: episode_return_mean 1 [-inf, inf] after 1,000 frames, 1 run",
        "impala: episode_return_mean -1 [-inf, inf] after 400 frames, 1 run",
        str(out),
    ]
    assert out.stat().st_size > 10_000


def test_curves_meet_on_the_frames_that_all_runs_have(tmp_path):
    runs = [compare._read(run(tmp_path / str(n), 0.0, slope=1.0, points=n, seed=n)) for n in (10, 5)]
    (group,) = compare.grouped(runs).values()
    frames, values = compare._curves(group, "episode_return_mean")
    assert (frames[0], frames[-1]) == (200, 500)  # the first return is known at the second log point
    np.testing.assert_allclose(values, np.stack([frames / 100] * 2, axis=1))


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "the following arguments are required: RUN_DIR"),
        (["nowhere"], "RUN_DIR: nowhere is not a directory"),
        (["empty"], "empty: metrics.jsonl has no log point yet"),
        (["whole", "--out", "picture.jpeg"], "it must end in .png, .svg or .pdf"),
        (["whole", "--out", "no/such/place.png"], "no/such/place.png cannot be written"),
    ],
)
def test_bad_input_gets_one_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "empty", 0.0, points=0)
    run(tmp_path / "whole", 0.0)
    assert compare.main(words) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
