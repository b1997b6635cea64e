"""`onelife bench --simulate-actors N`: how many actors can one learner take in? Ray actors that replay a recording."""

import dataclasses
import functools
import math
import statistics
import time
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from actors.config import RayConfig
from agents.types import Provenance, Trajectory, Unroll, VersionedParams
from configs.experiment import ExperimentConfig
from configs.presets import preset
from configs.ranges import COUNT, RANGES
from configs.tree import ConfigError, override
from configs.validate import nearest_multiples
from scripts.bench.chart import draw_bars
from scripts.bench.output import add_out, check_out, write
from scripts.parse import Parser

SECONDS = 600.0  # for a batch, the making of all actors included


class Replay:
    """An actor that says the same trajectory again and again, as if acted by the parameters that it was given."""

    def __init__(self, trajectory: Trajectory, actor_index: int, incarnation: int):
        self._trajectory = trajectory
        self._provenance = Provenance(actor_index, incarnation, 0, 0)

    def unroll(self, params: VersionedParams) -> Unroll:
        version = np.full_like(self._trajectory.params_version, params.version)
        provenance = self._provenance._replace(params_version=params.version)
        self._provenance = provenance._replace(unroll_index=provenance.unroll_index + 1)
        return Unroll(self._trajectory._replace(params_version=version), provenance)

    def get_state(self) -> None:
        return None

    def close(self) -> None:
        pass


def make_replay(actor_index: int, incarnation: int, *, trajectory: Trajectory) -> Replay:
    return Replay(trajectory, actor_index, incarnation)


class Intake(NamedTuple):
    """What `actors` replaying actors, each with its share of the batch, bring and what becomes of it."""

    actors: int
    batch_bytes: int
    received: float  # batches a second that reach the learner's device, where nobody learns
    learned: float  # batches a second with an update and its parameters published after each
    lag: float  # mean policy lag while learning
    acted: float  # batches a second of one real actor with such a share, with one emulator thread


def measure(actors: int, config: ExperimentConfig, batches: int) -> Intake:
    import jax

    from actors.environments.make import environment_spec
    from actors.ray_pool import RayPool
    from learner.mesh import Mesh
    from scripts.parts import make_actor_from, make_learner

    config = dataclasses.replace(config, actors=actors)
    spec = environment_spec(config.game, config.environment)
    mesh = Mesh()
    learner = make_learner(config, spec, mesh=mesh)
    state = learner.init(jax.random.key(0))

    def published() -> VersionedParams:
        return VersionedParams(state.inner_updates, state.inner.params)

    actor = make_actor_from(config)(0, 0)
    acting = []
    for _ in range(1 + 3):  # the first compiles
        start = time.perf_counter()
        trajectory = actor.unroll(published()).trajectory
        acting.append(time.perf_counter() - start)
    actor.close()
    replay = functools.partial(make_replay, trajectory=jax.tree.map(np.asarray, trajectory))
    pool = RayPool(replay, actors, config.lag, config.pool, spec.frames_per_step, ray_config=config.ray)
    rates: list[float] = []
    try:
        pool.start(published())
        for learns in (False, True):
            for index in range(-2 * actors, batches):  # those below 0 warm up: the first ones lay there already
                if index == 0:
                    pool.statistics()  # the lag since here
                    start = time.perf_counter()
                batch = pool.get(SECONDS)
                if learns:
                    state, _ = learner.step(state, batch)
                else:
                    jax.block_until_ready(mesh.shard(batch))
                    state = state._replace(inner_updates=state.inner_updates + 1)
                pool.publish(published())
            jax.block_until_ready(state.inner)
            rates.append(batches / (time.perf_counter() - start))
        lag = pool.statistics()["policy_lag"]
    finally:
        pool.stop(10.0)
    size = sum(x.nbytes for x in jax.tree.leaves(batch))
    return Intake(actors, size, *rates, lag, 1 / statistics.median(acting[1:]))


def actor_counts(most: int) -> list[int]:
    """1, 2, 4, … and `most`."""
    return sorted({most} | {2**i for i in range(most.bit_length())})


def main(words: list[str]) -> int:
    """Measures 1, 2, 4, … and N actors; prints a table, writes its figures as JSON. Returns the exit code."""
    parser = Parser("onelife bench intake", "what one learner takes in, from actors that replay")
    actors = RANGES["actors"]
    parser.add_integer("--simulate-actors", actors, default=8, metavar="N", help="up to so many (default 8)")
    parser.add_integer("--batches", COUNT, default=40, help="measured in each case (default 40)")
    parser.add_integer("--streams", COUNT, default=32, help="environment streams together (default 32)")
    parser.add_argument("--preset", default="atari_impala", help="whose learner (default atari_impala)")
    parser.add_argument("--game", default="pong", help="that the recording is of (default pong)")
    add_out(parser, "bench_intake")
    given = parser.parse_args(words)
    check_out(given.out)
    counts = actor_counts(given.simulate_actors)
    if given.streams % math.lcm(*counts):
        raise ConfigError(
            f"--streams: {given.streams} do not divide over {', '.join(map(str, counts))} actors"
            f"; nearest: {nearest_multiples(given.streams, math.lcm(*counts))}"
        )
    settings = {
        "game": given.game,
        "streams": given.streams,
        "runtime": "ray",
        "lag": "free",
        "ray.cpus_per_actor": 0.0,
    }
    config = override(preset(given.preset), settings)
    from actors.ray_pool import connect

    connect(RayConfig(cpus_per_actor=0.0), counts[-1])  # before JAX's first use: Ray forks
    console, found = Console(stderr=True), []
    for actors in counts:
        console.print(f"{actors} of {counts[-1]} actors")
        found.append(measure(actors, config, given.batches))
        intake = [one._asdict() for one in found]
        write(given.out, {"streams": given.streams, "preset": given.preset, "intake": intake})
    Console().print(_table(found))
    received = {f"{one.actors} actors": [one.received] for one in found}
    learned = {f"{one.actors} actors": [one.learned] for one in found}
    print(draw_bars(given.out, {"batches/s received": received, "batches/s learned from": learned}))
    return 0


def _table(found: list[Intake]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("actors", "taken in/s", "MB/s", "learned/s", "lag", "moving/making", "to feed it"):
        table.add_column(column, no_wrap=True)
    for one in found:
        megabytes = one.batch_bytes / 1e6
        table.add_row(
            str(one.actors),
            f"{one.received:.1f}",
            f"{one.received * megabytes:.0f}",
            f"{one.learned:.2f}",
            f"{one.lag:.1f}",
            f"{one.acted / (one.actors * one.received):.3f}",  # on the clock, of one actor alone
            f"{one.actors * one.learned / one.acted:.1f}",
        )
    return table
