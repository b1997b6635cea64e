"""docs/new_agent.md, done as it says in a copy of the project."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "new_agent.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def copy(tmp_path):
    """The project's rooms, to be changed."""
    for room in ("agents", "actors", "learner", "configs", "scripts"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run_module(copy: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def run(copy: Path, command: str) -> list[dict]:
    """A command of the page in the copy -> the lines of its metrics."""
    words = command.split()
    assert words[0] == "onelife"
    run_module(copy, "scripts.cli", *words[1:])
    return [json.loads(line) for line in (copy / words[-1] / "metrics.jsonl").read_text().splitlines()]


def test_the_agent_works(copy):
    agent, preset = blocks("python")
    assert len(agent.splitlines()) < 60
    (copy / "agents" / "reward_shift.py").write_text(agent)
    with (copy / "configs" / "presets.py").open("a") as file:
        file.write("\n\n" + preset)
    lines = run(copy, blocks("sh")[0])
    assert "# (O)" in preset  # as tests/configs/test_presets.py will ask
    assert lines[-1]["meta/scale"] != 1 and lines[-1]["meta/shift"] != 0
    assert lines[-1]["meta_grad/snr"] > 0
    # Its tests: tests/scripts/test_configuration.py is green again behind this.
    python, *words = blocks("sh")[1].split()
    assert python == "python"
    (copy / "docs").mkdir()
    run_module(copy, *words[1:])
    settings = (copy / "docs" / "configuration.md").read_text()
    assert "mgrl, reward_shift, stac" in settings and "**catch_reward_shift**" in settings


def test_the_seventh_hyperparameter_works(copy):
    (change,) = blocks("diff")
    subprocess.run(["git", "apply", "-"], input=change, cwd=copy, text=True, check=True, timeout=60)
    last = run(copy, blocks("sh")[2])[-1]
    assert 0 < last["meta/logits_weight"] < 1e-3 and last["meta_grad/of_logits_weight"] != 0
    assert {name for name in last if name.startswith("meta/")} == {"meta/gamma", "meta/logits_weight"}
