"""`onelife bench compile`: how long each preset takes from its command to its first update, and the second time."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from configs.presets import PRESETS
from configs.tree import ConfigError, check_choice
from scripts.bench.chart import draw_bars
from scripts.bench.output import add_out, check_out, write
from scripts.bench.process import reason
from scripts.parse import Parser

SECONDS = 900.0  # for a start


class Start(NamedTuple):
    """Seconds from the command."""

    update: float  # to the first inner update in the log
    meta: float | None  # to the first step of η; None where nothing is self-tuned


def start(name: str, cache: Path, place: Path) -> Start:
    """Starts a preset in a process of its own, with compiled programs kept in `cache`, and kills it where it runs."""
    words = [sys.executable, "-m", "scripts.cli", "train", name, "--run-dir", str(place), "--log.updates", "1"]
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    begun = time.perf_counter()
    tuned = PRESETS[name]().agent != "impala"
    update = None
    with tempfile.TemporaryFile("w+") as complaints:  # not a pipe, which nobody would empty
        process = subprocess.Popen(
            [*words, "--log.tensorboard", "false", "--log.report", "false"],
            env=environment | {"XDG_CACHE_HOME": str(cache)},
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            start_new_session=True,
        )
        try:
            while time.perf_counter() - begun < SECONDS:
                if process.poll() is not None:
                    complaints.seek(0)
                    why = reason(complaints.read(), process.returncode)
                    raise ConfigError(f"bench compile: {name} ended before its first step of η: {why}")
                seconds, lines = time.perf_counter() - begun, _lines(place / "metrics.jsonl")
                if lines:
                    update = update or seconds
                    if not tuned or lines[-1]["meta_updates"]:
                        return Start(update, seconds if tuned else None)
                time.sleep(0.1)
            raise ConfigError(f"bench compile: {name} made no step of η within {SECONDS:g} s")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _lines(path: Path) -> list[dict]:
    """Whole lines of a log that is being written."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def main(words: list[str]) -> int:
    """Starts every preset twice, the second time with what the first one compiled. Returns the exit code."""
    parser = Parser("onelife bench compile", "seconds from the command to the first update")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), metavar="PRESET", help="(default: all)")
    add_out(parser, "bench_compile")
    given = parser.parse_args(words)
    check_out(given.out)
    for name in given.presets:
        check_choice("--presets", name, PRESETS)
    console, found = Console(stderr=True), {}
    for name in given.presets:
        with tempfile.TemporaryDirectory() as folder:
            console.print(f"{name}: first start")
            first = start(name, Path(folder, "cache"), Path(folder, "first"))
            console.print(f"{name}: second start")
            found[name] = first, start(name, Path(folder, "cache"), Path(folder, "second"))
        write(given.out, {"starts": {name: [one._asdict() for one in starts] for name, starts in found.items()}})
    Console().print(_table(found))
    seconds = {
        f"seconds to the first {what}, {which} start": {name: [s[i][j]] for name, s in found.items() if s[i][j]}
        for j, what in enumerate(("update", "step of η"))
        for i, which in enumerate(("first", "second"))
    }
    print(draw_bars(given.out, seconds))
    return 0


def _table(found: dict[str, tuple[Start, Start]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("preset", "first update", "again", "of the first", "first step of η", "again", "of the first"):
        table.add_column(column)
    for name, starts in found.items():
        cells: list[str] = []
        for first, second in zip(*starts, strict=True):
            cells += [f"{first:.1f} s", f"{second:.1f} s", f"{second / first:.2f}"] if first and second else [""] * 3
        table.add_row(name, *cells)
    return table
