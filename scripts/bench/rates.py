"""`onelife bench rates`: each case a process of its own, in turns, so that the machine's noise cancels."""

import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from configs.presets import preset
from configs.ranges import COUNT
from configs.tree import ConfigError, nearest
from scripts.bench.chart import draw_bars
from scripts.bench.output import add_out, check_out, write
from scripts.bench.process import run_to_end
from scripts.parse import Parser

_ENV, _INFER, _ACT, _LEARN = "EnvPool alone", "inference alone", "acting only", "learning alone (IMPALA)"
_CORES = len(os.sched_getaffinity(0))
_SECONDS = 1800.0  # for one measurement
_LEARNERS = {
    "IMPALA": ["atari_impala"],
    "STAC K=1": ["atari_stac"],
    "STAC K=5": ["atari_stac", "--window", "5"],
}
# A Ray actor has one core for its emulators where nothing is said; the thread that it is compared to has them all.
_PLACES = {
    "": [],
    ", 2 actors": ["--actors", "2"],
    ", Ray, 1 actor": ["--runtime", "ray", "--environment.threads", str(_CORES)],
    ", Ray, 2 actors": ["--runtime", "ray", "--actors", "2"],
}
_RUNS = {who + where: [*words, *more] for where, more in _PLACES.items() for who, words in _LEARNERS.items()}
# What a case is held to: its parts, one after the other on the same cores, or another case.
LIMITS = {_ACT: (_ENV, _INFER), "IMPALA": (_ENV, _INFER, _LEARN)}
for _who in _LEARNERS:
    LIMITS |= {f"{_who}, Ray, 1 actor": (_who,), f"{_who}, Ray, 2 actors": (f"{_who}, 2 actors",)}
CASES = [_ENV, _INFER, _ACT, _LEARN, *_RUNS]
_RAY = [name for name in _RUNS if "Ray" in name]
# What `onelife bench NAME` measures, each with what it is held to.
PARTS = {
    "env": [_ENV],
    "act": [_ENV, _INFER, _ACT],
    "learn": [_LEARN],
    "pipeline": [_ENV, _INFER, _LEARN, *(name for name in _RUNS if name not in _RAY)],
    "ray": [*dict.fromkeys([*(LIMITS[name][0] for name in _RAY), *_RAY])],
    "rates": CASES,
}
_WARM_UP, _LOG = 10, 5  # updates before the clock starts, and between two looks at it


def main(words: list[str], part: str = "rates") -> int:
    """Runs the benchmark, or that part of its cases, prints a table, writes its figures as JSON and as a chart."""
    parser = Parser(f"onelife bench {part}", "agent steps per second on Atari Pong, side by side")
    parser.add_integer("--rounds", COUNT, default=3, help="how often every case runs (default 3)")
    parser.add_integer("--updates", COUNT, default=40, help="measured inner updates of a case (default 40)")
    parser.add_integer("--streams", COUNT, default=32, help="environment streams (default 32)")
    add_out(parser, f"bench_{part}")
    parser.add_argument("--only", nargs="+", metavar="CASE", help=f"some of: {'; '.join(PARTS[part])}")
    parser.add_argument("--case", help="measure this one here, once, and print agent steps per second")
    given = parser.parse_args(words)
    for option, names, known in (("only", given.only or [], PARTS[part]), ("case", [given.case or _ENV], CASES)):
        for name in names:
            if name not in known:
                listed = "; ".join(known)
                raise ConfigError(f"--{option}: {name!r} is no case; choose from {listed}{nearest(name, known)}")
    if given.case:
        print(_measure(given.case, given.updates, given.streams))
        return 0
    check_out(given.out)
    rates: dict[str, list[float]] = {name: [] for name in given.only or PARTS[part]}
    console = Console(stderr=True)
    for turn in range(given.rounds):
        for name in rates:
            console.print(f"round {turn + 1} of {given.rounds}: {name}")
            rates[name].append(in_process(name, given.updates, given.streams))
            # After each one: a case that fails takes no other's figures with it.
            write(given.out, {"streams": given.streams, "updates": given.updates, "rates": rates})
    Console().print(_table(rates))
    print(draw_bars(given.out, {"agent steps/s": rates}))
    return 0


def _table(rates: dict[str, list[float]]) -> Table:
    table = Table("case", "agent steps/s: min", "median", "max", "of the first case", "of its limit")
    middle = {name: statistics.median(values) for name, values in rates.items()}
    first = next(iter(middle.values()))
    for name, values in rates.items():
        parts = LIMITS.get(name, ())
        limit = ""
        if parts and all(part in middle for part in parts):
            limit = f"{middle[name] * sum(1 / middle[part] for part in parts):.2f}"
        spread = (f"{value:.0f}" for value in (min(values), middle[name], max(values)))
        table.add_row(name, *spread, f"{middle[name] / first:.2f}", limit)
    return table


def in_process(name: str, updates: int, streams: int) -> float:
    """A case's agent steps per second, in a fresh process, so that cases do not share caches, threads or a Ray.

    Raises ConfigError, one line, where it fails.
    """
    words = [sys.executable, "-m", "scripts.bench.rates", "--case", name]
    words += ["--updates", str(updates), "--streams", str(streams)]
    return float(run_to_end(f"bench: {name}", words, _SECONDS).split()[-1])


def _measure(name: str, updates: int, streams: int) -> float:
    """Agent steps per second of one case, after its compilation and warm-up."""
    if name in _RUNS:
        return _training_rate(_RUNS[name], updates, streams)
    if name == _LEARN:
        return _learning_rate(updates, streams)
    if name == _INFER:
        return _inference_rate(updates, streams)
    return _acting_rate(updates, streams, infer=name == _ACT)


def _training_rate(words: list[str], updates: int, streams: int) -> float:
    """Agent steps per second of `onelife train WORDS` on Atari, in a process of its own."""
    config = preset(words[0])
    steps = streams * config.unroll
    with tempfile.TemporaryDirectory() as place:
        frames = 4 * steps * (_WARM_UP + updates)
        words = ["train", *words, "--run-dir", f"{place}/run", "--streams", str(streams), "--frames", str(frames)]
        quiet = "--log.tensorboard false --log.report false --checkpoint.seconds 100000"
        words += ["--log.updates", str(_LOG), *quiet.split()]
        run_to_end("its run", [sys.executable, "-m", "scripts.cli", *words], _SECONDS - 60)
        lines = [json.loads(line) for line in Path(place, "run", "metrics.jsonl").read_text().splitlines()]
    measured = [line for line in lines if line["inner_updates"] >= _WARM_UP]
    span = {key: measured[-1][key] - measured[0][key] for key in ("agent_steps", "wall_seconds")}
    return span["agent_steps"] / span["wall_seconds"]


def _learning_rate(updates: int, streams: int) -> float:
    """The learner alone, on one batch that stays on its device."""
    from scripts.bench.meta import CASES as UPDATES
    from scripts.bench.meta import PLAIN, Window

    window = Window(UPDATES[PLAIN], preset("atari_impala").network.torso, streams)
    window.seconds()
    return streams * preset("atari_impala").unroll * updates / sum(window.seconds() for _ in range(updates))


def _inference_rate(updates: int, streams: int) -> float:
    """The network's forward pass alone, on one batch of observations that stays on its device."""
    import jax
    import numpy as np

    from actors.environments.make import environment_spec
    from scripts.parts import make_agent_from

    config = preset("atari_impala")
    spec = environment_spec(config.game, config.environment)
    agent = make_agent_from(config)(spec)
    params = agent.init(jax.random.key(0))
    observation = np.random.default_rng(0).integers(0, 256, (streams, *spec.observation_shape), np.uint8)
    given = jax.device_put((observation, np.ones(streams, np.int8), agent.initial_state(streams)))
    step = jax.jit(agent.step)
    jax.block_until_ready(step(params, *given))
    start = time.perf_counter()
    for _ in range(updates * config.unroll):
        jax.block_until_ready(step(params, *given))
    return updates * config.unroll * streams / (time.perf_counter() - start)


def _acting_rate(updates: int, streams: int, infer: bool) -> float:
    """The emulator alone under random actions, or the whole actor (`infer`) without a learner."""
    import jax
    import numpy as np

    from actors.environments.make import environment_spec, make_environment, stream_seeds
    from agents.types import VersionedParams
    from scripts.parts import make_actor_from, make_agent_from

    config = dataclasses.replace(preset("atari_impala"), streams=streams)
    spec = environment_spec(config.game, config.environment)
    one: Any
    if infer:
        actor = make_actor_from(config)(0, 0)
        params = VersionedParams(0, make_agent_from(config)(spec).init(jax.random.key(0)))

        def one() -> None:
            actor.unroll(params)
    else:
        seeds = stream_seeds(0, 0, 0, streams)
        environment = make_environment(config.game, config.environment, seeds, threads=_CORES)
        actions = np.random.default_rng(0).integers(0, spec.num_actions, (config.unroll, streams))
        environment.reset()

        def one() -> None:
            for action in actions:
                environment.step(action)

    for _ in range(3):
        one()
    start = time.perf_counter()
    for _ in range(updates):
        one()
    return updates * streams * config.unroll / (time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
