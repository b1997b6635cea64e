"""`onelife bench peers`: plain IMPALA here, by RLlib and by Sample Factory, in turns, each in its own environment."""

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from configs.presets import preset
from configs.ranges import COUNT, Range
from configs.tree import ConfigError
from scripts.bench.chart import draw_bars
from scripts.bench.output import add_out, check_out, write
from scripts.bench.process import run_to_end
from scripts.bench.rates import in_process
from scripts.bench.ratios import table
from scripts.compile_cache import cache_folder
from scripts.parse import Parser

OURS = "onelife, IMPALA"
# Name: its script, and what its environment holds.
PEERS = {
    "RLlib, IMPALA": (
        "peer_rllib.py",
        ["ray[rllib]==2.60.0", "torch==2.13.0", "ale-py>=0.11,<0.13", "gymnasium>=1.1,<1.3", "opencv-python-headless"],
    ),
    "Sample Factory, APPO": (
        "peer_sample_factory.py",
        ["sample-factory==2.1.1", "torch==2.13.0", "envpool>=1.2.5,<1.3"],
    ),
}
_WARM_UP = 10
_SECONDS = 900.0  # for one measurement, and for the making of an environment


def main(words: list[str]) -> int:
    """Makes the peers' environments where they are missing, measures in turns, prints a table."""
    parser = Parser("onelife bench peers", "agent steps per second of IMPALA on Atari Pong, by system")
    parser.add_integer("--rounds", COUNT, default=3, help="how often each is measured (default 3)")
    parser.add_integer("--updates", COUNT, default=40, help="measured updates (default 40)")
    parser.add_integer("--streams", Range(2), default=32, help="environment streams, an even number (default 32)")
    place = str(cache_folder() / "peers")
    parser.add_argument("--environments", metavar="DIR", default=place, help=f"the peers' (default {place})")
    add_out(parser, "bench_peers")
    given = parser.parse_args(words)
    check_out(given.out)
    if given.streams % 2:
        raise ConfigError(f"--streams: {given.streams} is not allowed; it must be an even number")
    _check_environments(given.environments)
    console = Console(stderr=True)
    pythons = {name: _environment(Path(given.environments), name, console) for name in PEERS}
    rates: dict[str, list[float]] = {OURS: []} | {name: [] for name in PEERS}
    versions: dict[str, str] = {}
    for turn in range(given.rounds):
        for name in rates:
            console.print(f"round {turn + 1} of {given.rounds}: {name}")
            if name == OURS:
                rates[name].append(in_process("IMPALA", given.updates, given.streams))
            else:
                found = _measure(name, pythons[name], given.streams, given.updates)
                rates[name].append(found["rate"])
                versions[name] = found["version"]
            # After each one: a system that fails takes no other's figures with it.
            write(given.out, {"streams": given.streams, "updates": given.updates, "versions": versions, "rates": rates})
    Console().print(table("", "agent steps/s", rates, "ours / theirs", lambda theirs, ours: ours / theirs))
    print(draw_bars(given.out, {"agent steps/s": rates}))
    cores = len(os.sched_getaffinity(0))
    print(f"{statistics.median(rates[OURS]) / cores:.0f} agent steps a second and core here, on {cores} cores")
    return 0


def _check_environments(place: str) -> None:
    """Raises ConfigError, one line, where nothing can be made in `place`."""
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ConfigError(f"--environments: {place!r} cannot be written ({error.strerror}); name another") from None


def _environment(place: Path, name: str, console: Console) -> str:
    """The Python of a peer's environment, which is made from PyPI where there is none."""
    script, needs = PEERS[name]
    folder = place / Path(script).stem
    python, made = folder / "bin" / "python", folder / "made"
    if made.exists() and made.read_text() == "\n".join(needs):
        return str(python)
    console.print(f"{name}: making {folder}, some minutes the first time")
    run_to_end(f"bench peers: {name}", [sys.executable, "-m", "venv", "--clear", str(folder)], _SECONDS)
    run_to_end(
        f"bench peers: {name}",
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *needs],
        _SECONDS,
    )
    made.write_text("\n".join(needs))
    return str(python)


def _measure(name: str, python: str, streams: int, updates: int) -> dict[str, Any]:
    script = Path(__file__).with_name(PEERS[name][0])
    said = run_to_end(
        f"bench peers: {name}",
        [python, *map(str, (script, streams, preset("atari_impala").unroll, updates, _WARM_UP))],
        _SECONDS,
    )
    return json.loads(said.strip().splitlines()[-1])
