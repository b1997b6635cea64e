"""docs/new_agent.md, done as it says in a copy of the project."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "new_agent.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_the_page_works(tmp_path):
    for room in ("agents", "actors", "learner", "configs", "scripts"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    agent, preset = blocks("python")
    assert len(agent.splitlines()) < 60
    (tmp_path / "agents" / "reward_shift.py").write_text(agent)
    with (tmp_path / "configs" / "presets.py").open("a") as file:
        file.write("\n\n" + preset)
    (command,) = blocks("sh")
    words = command.split()
    assert words[0] == "onelife"
    done = subprocess.run(
        [sys.executable, "-m", "scripts.cli", *words[1:]],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "runs/shift/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["meta/scale"] != 1 and lines[-1]["meta/shift"] != 0
    assert lines[-1]["meta_grad/snr"] > 0
