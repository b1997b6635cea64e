import math
import warnings
from pathlib import Path

import numpy as np
import pytest

from configs.experiment import to_json
from configs.presets import preset
from configs.tree import override
from scripts import compare
from scripts.cli import main
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
    assert main(["compare", *seeds, wide, fixed, "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    # Student's t of three values that are one apart: 4.303 / √3.
    assert said == [
        "stac, --window 4: episode_return_mean 2 [-0.4841, 4.484] after 1,000 frames, 3 runs",
        "stac, --window 8: episode_return_mean 1 after 1,000 frames, one seed: no interval",
        "impala: episode_return_mean -1 after 400 frames, one seed: no interval",
        str(out),
    ]
    assert out.stat().st_size > 10_000


def test_curves_meet_on_the_frames_that_all_runs_have(tmp_path):
    runs = [compare._read(run(tmp_path / str(n), 0.0, slope=1.0, points=n, seed=n)) for n in (10, 5)]
    (group,) = compare.grouped(runs).values()
    frames, values = compare._curves(group, "episode_return_mean")
    assert (frames[0], frames[-1]) == (200, 500)  # the first return is known at the second log point
    np.testing.assert_allclose(values, np.stack([frames / 100] * 2, axis=1))


def test_beyond_the_shortest_run_the_curve_is_the_mean_of_the_others_and_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = [run(Path(str(n)), float(n), points=n, seed=n) for n in (10, 8, 5)]
    assert main(["compare", *names, "--out", "all.png"]) == 0
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.startswith("stac: episode_return_mean 7.667 [") and first.endswith("after 500 frames, 3 runs")
    told = "5 ends at 500 frames, 10 at 1,000; dashed beyond 500: the mean over the runs there are"
    assert second == f"stac: {told}"
    frames, values = compare._tail([compare._read(name) for name in names], "episode_return_mean", 500.0)
    assert (frames[0], frames[-1]) == (500, 1000)
    np.testing.assert_allclose(values, np.select([frames <= 500, frames <= 800], [23 / 3, 9.0], 10.0))


def test_a_life_counts_once(tmp_path, monkeypatch, capsys):
    """Neither a directory that is given twice nor a copy of a run is another sample; the longer copy is kept."""
    monkeypatch.chdir(tmp_path)
    run(Path("a"), 1.0, points=5)
    run(Path("b"), 1.0, runtime="ray")
    run(Path("other"), 3.0, seed=1)
    assert main(["compare", "a", "./a/", "b", "other"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].endswith("after 1,000 frames, 2 runs")
    assert err.splitlines() == [
        "onelife: skipped: ./a/ is given twice",
        "onelife: skipped: a has the settings and the seed (0) of b",
    ]


@pytest.mark.parametrize("anneal, lines", [(True, 2), (False, 1)])
def test_the_lifes_length_is_a_setting_where_a_learning_rate_is_annealed_over_it(tmp_path, anneal, lines):
    settings = {"optimizer.anneal": anneal}
    short = compare._read(run(tmp_path / "short", 1.0, frames=1_000, **settings))
    long = compare._read(run(tmp_path / "long", 1.0, frames=2_000, seed=1, **settings))
    groups = compare.grouped([short, long])
    assert len(groups) == lines
    assert ("stac, --frames 1000" in groups) == anneal


def test_what_is_no_run_is_skipped_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(Path("whole"), 1.0)
    run(Path("young"), 1.0, points=0, seed=1)
    run(Path("damaged"), 1.0, seed=2)
    Path("damaged/config.json").write_text("{")
    run(Path("odd"), 1.0, seed=3)
    Path("odd/metrics.jsonl").unlink()
    Path("odd/metrics.jsonl").mkdir()
    Path("picture.png").touch()
    words = ["picture.png", "young", "damaged", "odd"]
    assert main(["compare", *words, "whole"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == compare.OUT
    assert len(err.splitlines()) == 4
    assert all(line.startswith("onelife: skipped: ") for line in err.splitlines())
    assert all(word in line for word, line in zip(words, err.splitlines(), strict=True))
    assert main(["compare", *words]) == 2


def test_log_points_without_frames_are_no_points(tmp_path):
    config = to_json(preset("smoke"))
    make_run(tmp_path / "run", [{"inner_updates": 1}, {"inner_updates": 2, "env_frames": 9}], config)
    assert [point["inner_updates"] for point in compare._read(str(tmp_path / "run")).points] == [2]


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "the following arguments are required: RUN_DIR"),
        (["nowhere"], "RUN_DIR: nowhere is not a directory"),
        (["empty"], "empty: metrics.jsonl has no log point yet"),
        (["whole", "--out", "picture.jpeg"], "it must end in .png, .svg or .pdf"),
        (["whole", "--out", "no/such/place.png"], "'no/such/place.png' cannot be written"),
    ],
)
def test_bad_input_gets_one_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "empty", 0.0, points=0)
    run(tmp_path / "whole", 0.0)
    assert main(["compare", *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_a_run_without_a_score_yet_is_drawn_without_a_warning(tmp_path, capsys):
    young, out = run(tmp_path / "young", 0.0, points=1), tmp_path / "all.png"
    with warnings.catch_warnings(action="error"):
        assert main(["compare", young, "--out", str(out)]) == 0
    assert "not known yet" in capsys.readouterr().out and out.stat().st_size > 5_000
