"""`onelife bench bandit`: an update of η on No DICE's bandit at the paper's scale, here and in PyTorch."""

import json
import os
import sys
import time
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from configs.ranges import Range
from configs.tree import override
from scripts.bench.chart import draw_bars
from scripts.bench.output import add_out, check_out, write
from scripts.bench.process import run_to_end
from scripts.bench.ratios import table
from scripts.intervals import interval
from scripts.lives import Lives
from scripts.parse import Parser
from scripts.studies.nodice import NAMES, bandit

OURS, SIDE, ONE = "onelife", "PyTorch, lives side by side", "PyTorch, life by life"
RAW, CORRECTION = 1.0, 1.0  # both rates, and λ
PART = 50  # of the lives are measured where they follow each other, and their time counted so often


class Ours:
    """Lives that share an η which stays where it is, the whole of each life one window."""

    def __init__(self, lives: int):
        self._lives = Lives(override(bandit(), {"correction": CORRECTION}), shared=True, own_tasks=True, lifetime=1)
        born = {name: np.full(lives, RAW, np.float32) for name in NAMES}
        self._state = self._lives.start(range(lives), born)
        self.measure()  # compiles

    def measure(self) -> tuple[float, list[float]]:
        """Seconds, and the meta-gradient of the reward, of one update of η."""
        start = time.perf_counter()
        self._state, records = self._lives.run(self._state, 1)
        jax.block_until_ready(self._state)
        return time.perf_counter() - start, [-float(records[f"meta_grad/of_{name}"].mean()) for name in NAMES]


def main(words: list[str]) -> int:
    """Measures in turns, prints a table, writes its figures as JSON. Returns the exit code."""
    parser = Parser("onelife bench bandit", "seconds of an update of η on No DICE's bandit, λ = 1")
    parser.add_integer("--lives", Range(PART), default=1_000, help="lives of an update (default 1000, the paper's)")
    parser.add_integer("--rounds", Range(2), default=10, help="updates measured of every case (default 10)")
    parser.add_argument("--torch", default=sys.executable, help="a Python that has torch (default: this one)")
    add_out(parser, "bench_bandit")
    given = parser.parse_args(words)
    check_out(given.out)
    _torch(given.torch, "side", PART, 0)  # that it is there, before anything is compiled
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))  # PyTorch uses all cores, too
    seconds: dict[str, list[float]] = {OURS: [], SIDE: [], ONE: []}
    gradients: dict[str, list[list[float]]] = {OURS: [], SIDE: []}
    ours, console = Ours(given.lives), Console(stderr=True)
    for turn in range(given.rounds):
        console.print(f"round {turn + 1} of {given.rounds}")
        ours.measure()  # warms up, as the others do
        took, gradient = ours.measure()
        side = _torch(given.torch, "side", given.lives, turn)
        one = _torch(given.torch, "one", given.lives // PART, turn)
        for name, value in ((OURS, took), (SIDE, side["seconds"]), (ONE, one["seconds"] * PART)):
            seconds[name].append(value)
        for name, found in ((OURS, gradient), (SIDE, side["gradient"])):
            gradients[name].append(found)
    write(given.out, {"lives": given.lives, "torch": side["torch"], "seconds": seconds, "gradients": gradients})
    Console().print(table("update of η", "seconds", seconds, "of onelife's", lambda one, ours: one / ours))
    print(draw_bars(given.out, {"seconds of an update of η": seconds}))
    for index, name in enumerate(NAMES):
        found = [f"{case} {interval(np.array(own)[:, index])}" for case, own in gradients.items()]
        print(f"mean meta-gradient of the {name} rate, 95 %: {'; '.join(found)}")
    return 0


def _torch(python: str, kind: str, lives: int, seed: int) -> dict:
    """One update in a process of its own, after one that warms up."""
    script = Path(__file__).with_name("bandit_torch.py")
    command = [python, *map(str, (script, kind, lives, seed, CORRECTION, RAW, RAW))]
    return json.loads(run_to_end("--torch, a Python that has torch", command, seconds=600))
