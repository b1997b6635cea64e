"""Where a benchmark's figures go: a JSON file, and a chart beside it."""

import json
import os
from pathlib import Path
from typing import Any

from configs.tree import ConfigError
from scripts.parse import Parser, writing
from scripts.run_dir import describe_process


def add_out(parser: Parser, name: str) -> None:
    """Adds `--out`, whose default is named after the benchmark."""
    parser.add_argument("--out", default=f"{name}.json", help=f"where the figures go (default {name}.json)")


def check_out(out: str) -> None:
    """Raises ConfigError, one line, where no figures could be written: told before anything is measured."""
    path = Path(out)
    if path.suffix != ".json":
        raise ConfigError(f"--out: {out!r} is not allowed; its name must end in .json")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK) or path.is_dir():
        raise ConfigError(f"--out: {out!r} cannot be written; its folder must exist and be writable")


def write(out: str, figures: dict[str, Any]) -> None:
    """Writes the figures with a description of this process, and with what its malloc was told (see `huge_pages`)."""
    process = {"process": describe_process(), "tunables": os.environ.get("GLIBC_TUNABLES", "")}
    with writing("--out", out):
        Path(out).write_text(json.dumps(process | figures, indent=2) + "\n")
