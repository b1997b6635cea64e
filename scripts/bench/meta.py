"""`onelife bench meta`: what self-tuning costs the learner, per batch of experience, against a plain update."""

import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from actors.environments.make import environment_spec
from actors.unroll import trajectory_shapes
from agents.types import Trajectory
from configs.presets import preset
from configs.ranges import COUNT, Range
from configs.tree import check_choice, override
from configs.validate import IMAGE_TORSOS
from learner.learner import Learner
from learner.mesh import NoMesh
from learner.state import LearnerState
from scripts.bench.chart import draw_bars
from scripts.bench.flops import count_flops
from scripts.bench.output import add_out, check_out, write
from scripts.parse import Parser
from scripts.parts import make_learner

NEXT = {"meta_gradient.objective": "next", "outer.kl_weight": 0.0}
_ALL = {"meta_gradient.objective": "all", "outer.kl_weight": 0.0}
_WEIGHED = {"correction": 0.1, "lag": "0", "meta_gradient.diagnostics": 0}
_APART = _WEIGHED | {"meta_gradient.diagnostics": 1}
_TRACE = {"meta_gradient.differentiation": "trace"}


class Case(NamedTuple):
    preset: str
    settings: dict[str, Any]
    keep: bool = False


PLAIN = "plain update"
CASES = {
    PLAIN: Case("atari_impala", {}),
    "K=1, same batch, kept": Case("atari_stac", {}, keep=True),
    "K=1, same batch, rebuilt": Case("atari_stac", {}),
    "K=1, next batch, kept": Case("atari_stac", NEXT, keep=True),
    "K=1, next batch, rebuilt": Case("atari_stac", NEXT),
    "K=5, next batch, kept": Case("atari_stac", NEXT | {"window": 5}, keep=True),
    "K=5, next batch, rebuilt": Case("atari_stac", NEXT | {"window": 5}),
    "K=5, all batches, rebuilt": Case("atari_stac", _ALL | {"window": 5}),
    "K=5, all batches, λ>0, rebuilt": Case("atari_stac", _ALL | _WEIGHED | {"window": 5}),
    "K=5, all, λ>0, told apart": Case("atari_stac", _ALL | _APART | {"window": 5}),
    "K=20, next batch, kept": Case("atari_stac", NEXT | {"window": 20}, keep=True),
    "K=20, next batch, rebuilt": Case("atari_stac", NEXT | {"window": 20}),
    "trace, six scalars": Case("atari_stac", _TRACE | {"meta_gradient.diagnostics": 0}),
    "trace, six scalars, streams apart": Case("atari_stac", _TRACE),
}


class Window:
    """One case's learner, living on one made-up batch."""

    def __init__(self, case: Case, torso: str, streams: int):
        config = override(preset(case.preset), {"network.torso": torso, "streams": streams} | case.settings)
        spec = environment_spec(config.game, config.environment)
        self._learner: Learner = make_learner(config, spec, mesh=NoMesh(), keep=case.keep)
        self._shapes = trajectory_shapes(self._learner.agent, spec, config.unroll, streams)
        self._state: LearnerState | None = None

    @property
    def updates(self) -> int:
        return self._learner.span

    def state_shapes(self) -> LearnerState:
        """Of a life whose window has begun."""

        def begin(batch: Trajectory) -> LearnerState:
            zero = jnp.zeros((), jnp.int32)
            state = self._learner.init(jax.random.key(0))._replace(inner_updates=zero, meta_updates=zero)
            return self._learner.step(state, batch)[0]

        return jax.eval_shape(begin, self._shapes)

    def _live(self, state: LearnerState, batches: list[Trajectory]) -> LearnerState:
        for batch in batches:
            state, _ = self._learner.step(state, batch)
        return state

    def jaxpr(self) -> Any:
        """Of the updates from one step of η to the next; the learner's programs are its outermost equations."""
        return jax.make_jaxpr(self._live)(self.state_shapes(), [self._shapes] * self.updates)

    def flops(self) -> float:
        """Of one update, averaged over a window."""
        return count_flops(self._live, self.state_shapes(), [self._shapes] * self.updates) / self.updates

    def seconds(self) -> float:
        """Of one update, averaged over a window; the first call compiles, too."""
        if self._state is None:
            rng = np.random.default_rng(0)
            batch = jax.tree.map(lambda x: rng.integers(0, 2, x.shape).astype(x.dtype), self._shapes)
            self._batch = jax.device_put(batch._replace(step_type=np.ones_like(batch.step_type)))
            state = self._learner.init(jax.random.key(0))
            self._state, _ = self._learner.step(state, self._batch)
        jax.block_until_ready(self._state.inner)
        start = time.perf_counter()
        for _ in range(self.updates):
            self._state, _ = self._learner.step(self._state, self._batch)
        jax.block_until_ready(self._state)
        return (time.perf_counter() - start) / self.updates


def main(words: list[str]) -> int:
    """Counts, and with --rounds measures, prints a table, writes its figures as JSON. Returns the exit code."""
    parser = Parser("onelife bench meta", "cost of an update with its share of the meta-gradient")
    parser.add_argument("--network", default="impala_shallow", help="torso (default impala_shallow)")
    parser.add_integer("--streams", COUNT, default=32, help="environment streams (default 32)")
    parser.add_integer("--rounds", Range(0), default=0, help="windows timed of every case, in turns (default 0: none)")
    add_out(parser, "bench_meta")
    given = parser.parse_args(words)
    check_out(given.out)
    check_choice("--network", given.network, IMAGE_TORSOS)
    windows = {name: Window(case, given.network, given.streams) for name, case in CASES.items()}
    flops = {name: window.flops() for name, window in windows.items()}
    seconds: dict[str, list[float]] = {name: [] for name in windows}
    console = Console(stderr=True)
    for turn in range(-1, given.rounds) if given.rounds else ():  # turn -1 compiles
        for name, window in windows.items():
            console.print(f"round {turn + 1} of {given.rounds}: {name}")
            took = window.seconds()
            if turn >= 0:
                seconds[name].append(took)
    figures = {"network": given.network, "streams": given.streams, "flops": flops, "seconds": seconds}
    write(given.out, figures)
    Console().print(_table(flops, seconds))
    ratios = {name: [own / plain for own, plain in zip(seconds[name], seconds[PLAIN], strict=True)] for name in seconds}
    counted = {name: [count / flops[PLAIN]] for name, count in flops.items()}
    print(draw_bars(given.out, {"FLOPs of the plain update's": counted, "time of the plain update's": ratios}))
    return 0


def _table(flops: dict[str, float], seconds: dict[str, list[float]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("update", "FLOPs", "of plain", "time of plain: min", "median", "max"):
        table.add_column(column, no_wrap=column == "update")
    for name, count in flops.items():
        ratios = [own / plain for own, plain in zip(seconds[name], seconds[PLAIN], strict=True)]
        times = [f"{f(ratios):.2f}" for f in (min, statistics.median, max)] if ratios else [""] * 3
        table.add_row(name, f"{count / 1e9:.2f} G", f"{count / flops[PLAIN]:.3f}", *times)
    return table
