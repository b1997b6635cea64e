import json
import math
import re

import numpy as np
import pytest

from configs.experiment import to_json
from configs.presets import preset
from learner.loggers import MetricsLogger
from scripts import report
from scripts.cli import main
from scripts.run_dir import RunDirectory


def make_run(path, points, config=None):
    with RunDirectory.create(path, config or to_json(preset("smoke"))) as run:
        run.event("actor <1> was lost")
    logger = MetricsLogger(path, tensorboard=False)
    for point in points:
        logger.write(point)
    logger.close()
    return path


def points(n):
    for i in range(1, n + 1):
        yield {
            "inner_updates": 20 * i,
            "agent_steps": 640 * i,
            "env_frames": 640 * i,
            "wall_seconds": 40.0 * i,
            "steps_per_second": 500.0,
            "episodes": i - 1,
            "episode_return_mean": math.nan if i == 1 else -1 + i / n,
            "meta/gamma": 0.99 - 0.001 * i,
            "meta/alpha": 0.5,
            "meta_grad/norm": 0.1,
            "meta_grad/correction_norm": math.nan,
            "loss/policy": math.sin(i),
        }


def test_the_page_holds_everything_and_needs_no_other_file(tmp_path, capsys):
    run = make_run(tmp_path / "run", points(100))
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    page = (run / "report.html").read_text()
    for words in (
        "Learning curve",
        "episode return",
        "gamma",
        "alpha",
        "inner: policy",
        "64,000",
        "1 h 6 min",
        "jax==",
    ):
        assert words in page, words
    assert "actor &lt;1&gt; was lost" in page  # escaped
    assert page.count("<svg") == page.count("</svg>") == 5
    # What was never measured has no diagram, and nothing is loaded from elsewhere.
    assert "cosine" not in page
    assert not re.search(r"""(src|href)=["'](?!#)(?!http://www.w3.org)""", page)


def test_the_same_run_gives_the_same_page(tmp_path):
    run = make_run(tmp_path / "run", points(30))
    first = report.write_report(run).read_bytes()
    assert report.write_report(run).read_bytes() == first


def test_the_curve_is_a_picture_with_the_run_in_it(tmp_path):
    import matplotlib.image

    few = make_run(tmp_path / "few", points(30))
    report.write_report(few)
    picture = matplotlib.image.imread(few / "curve.png")[..., :3]
    assert picture.shape[0] > 500 and picture.shape[1] == 1300
    blue = (np.abs(picture - np.array([0x25, 0x63, 0xA8]) / 255) < 0.02).all(-1)
    rows, columns = np.nonzero(blue)
    left, right = rows[columns < columns.mean()].mean(), rows[columns > columns.mean()].mean()
    assert right < left - 50  # the return rises


def test_an_evaluation_and_a_game_without_episodes_are_shown(tmp_path):
    endless = [p | {"episode_return_mean": None, "reward_per_step": 0.25} for p in points(5)]
    run = make_run(tmp_path / "run", endless)
    (run / "evaluation.json").write_text(json.dumps({"return_mean": 12.5, "human_normalised": 0.9}))
    page = report.write_report(run).read_text()
    assert "reward a step" in page
    assert "12.50" in page and "90.0 %" in page


@pytest.mark.parametrize("n", [1, 2])
def test_a_young_run_has_a_page_too(tmp_path, n):
    report.write_report(make_run(tmp_path / "run", points(n)))


def test_runs_without_anything_to_show_get_one_line(tmp_path, capsys):
    def complaint(*words):
        assert main(["report", *map(str, words)]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err

    assert "RUN_DIR" in complaint()
    assert "is not a directory" in complaint(tmp_path / "nowhere")
    assert "metrics.jsonl has no log point yet" in complaint(make_run(tmp_path / "run", []))
