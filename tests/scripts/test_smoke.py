"""The newcomer's first run: it learns, and its learning rule moves."""

import json

import pytest

from scripts.cli import main


@pytest.mark.slow
def test_smoke_learns_catch(tmp_path):
    run_dir = tmp_path / "run"
    # Two fifths of the preset's life: to learn this takes a quarter of it.
    words = ["--run-dir", str(run_dir), "--frames", "200000", "--log.report", "false"]
    assert main(["train", "smoke", *words]) == 0
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["env_frames"] >= 200_000
    assert lines[-1]["episode_return_mean"] >= 0.8
    for name, start in lines[0].items():
        if name.startswith("meta/"):
            assert lines[-1][name] != start, name
    # The correction was there, and had something to say.
    assert lines[-1]["meta_grad/correction_norm"] > 0 and -1 <= lines[-1]["meta_grad/cosine"] <= 1
