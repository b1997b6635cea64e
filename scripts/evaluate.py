"""`onelife evaluate RUN_DIR`: plays complete episodes with the newest checkpoint of a run."""

import csv
import dataclasses
import datetime
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from actors.environments.make import MAX_STREAMS
from configs.experiment import ExperimentConfig
from configs.ranges import COUNT, RANGES, Range
from configs.tree import ConfigError
from scripts.compile_cache import use_compile_cache
from scripts.parse import Parser, read_run
from scripts.play import ENDLESS_GAMES, Player, check_video, film, make, play_episodes
from scripts.progress import eta
from scripts.run_dir import CHECKPOINTS

EPISODES = 30
STREAMS = 10
ENDLESS_STEPS = 5_000  # played in each stream of a game without episodes
RESULT = "evaluation.json"
LINE_SECONDS = 1.0  # between two lines that count episodes
_HUMAN_SCORES = Path(__file__).with_name("atari57_human_random.csv")


def main(words: list[str]) -> int:
    """Runs the command; returns its exit code."""
    options = _parse(words)
    run_dir = Path(options.run_dir)
    config = read_run(options.run_dir, "RUN_DIR")
    config = _check(options, config)
    step, params, frames, agent, events = _restore(run_dir, config)
    for event in events:
        print(f"onelife: {event}", file=sys.stderr)
    seed = config.seed if options.seed is None else options.seed
    started = time.monotonic()
    result: dict[str, Any] = {
        "game": config.game,
        "agent": config.agent,
        "inner_updates": step,
        "env_frames": frames,
        "policy": "greedy" if options.greedy else "sampled",
        "seed": seed,
    }
    if config.game in ENDLESS_GAMES:
        streams = options.streams or STREAMS
        result |= _play_endless(config, agent, params, streams, options.greedy, seed)
    else:
        streams = min(options.streams or STREAMS, options.episodes or EPISODES)
        result |= _play(config, agent, params, streams, options.episodes or EPISODES, options.greedy, seed)
    result |= {"streams": streams, "seconds": round(time.monotonic() - started, 1)}
    result["time"] = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    _print_result(result)
    try:
        (run_dir / RESULT).write_text(json.dumps(result, indent=2) + "\n")
    except OSError as error:
        print(f"onelife: {run_dir / RESULT} cannot be written: {error.strerror}", file=sys.stderr)
    if options.video:
        score, length = film(config, agent, params, options.greedy, seed, Path(options.video))
        print(f"video      {options.video}: {length:,} steps, return {score:g}")
    return 0


def human_normalised_score(game: str, score: float) -> float | None:
    """(score - random) / (human - random) for 57 games, None for others.

    The scores are those of no-op starts (Wang et al. 2016, as in dqn_zoo); tables of human starts differ.
    """
    with _HUMAN_SCORES.open(newline="") as file:
        for row in csv.DictReader(file):
            if f"atari:{row['game']}" == game:
                random, human = float(row["random"]), float(row["human"])
                return (score - random) / (human - random)
    return None


def _parse(words: list[str]) -> Any:
    parser = Parser("onelife evaluate", "Plays complete episodes with the newest checkpoint.")
    parser.add_argument("run_dir", metavar="RUN_DIR", help="directory of the run")
    parser.add_integer("--episodes", COUNT, metavar="N", help=f"how many episodes (default {EPISODES})")
    parser.add_argument("--greedy", action="store_true", help="take the most probable action (default: draw them)")
    streams = Range(1, MAX_STREAMS)
    parser.add_integer("--streams", streams, metavar="B", help=f"games side by side (default {STREAMS} or N)")
    seeds = Range(0, 2**31 - 1)
    parser.add_integer("--seed", seeds, metavar="S", help="seed of games and actions (default: the run's)")
    parser.add_argument("--video", metavar="FILE", help="film one more episode into FILE.mp4, .webm or .gif")
    frames = RANGES["environment.max_episode_frames"]
    parser.add_integer(
        "--max-episode-frames", frames, metavar="N", help="Atari: end episodes after N frames (default: the run's)"
    )
    return parser.parse_args(words)


def _check(options: Any, config: ExperimentConfig) -> ExperimentConfig:
    """Raises ConfigError at options that cannot be; returns the settings with the ones that options change."""
    if config.game in ENDLESS_GAMES and options.episodes:
        raise ConfigError(
            f"--episodes: {config.game} has no episodes; without it, {ENDLESS_STEPS:,} steps are played in each stream"
        )
    if options.video:
        check_video(Path(options.video), config.game)
    if options.max_episode_frames:
        if not config.game.startswith("atari:"):
            raise ConfigError(f"--max-episode-frames: {options.max_episode_frames} has no effect on {config.game}")
        environment = dataclasses.replace(config.environment, max_episode_frames=options.max_episode_frames)
        config = dataclasses.replace(config, environment=environment)
    return config


def _restore(run_dir: Path, config: ExperimentConfig) -> tuple[int, Any, int, Any, list[str]]:
    """(inner updates, parameters, emulator frames, agent, events) of the newest checkpoint."""
    import jax

    from actors.environments.make import environment_spec
    from learner.checkpoint import Checkpointer, CheckpointError, rebuild
    from scripts.parts import make_agent_from

    use_compile_cache()
    spec = environment_spec(config.game, config.environment)
    agent = make_agent_from(config)(spec)
    template = jax.eval_shape(agent.init, jax.random.PRNGKey(0))  # a backend that is not there is told here
    checkpointer = Checkpointer(run_dir / CHECKPOINTS)
    try:
        found = checkpointer.restore()
        if found is None:
            raise ConfigError(f"{run_dir} has no checkpoint yet")
        step, state = found
        try:
            params, steps = state["learner"]["inner"]["params"], state["progress"]["agent_steps"]
        except (KeyError, TypeError):
            raise ConfigError(f"{run_dir}: checkpoint {step} is of another version of onelife") from None
        params = rebuild(template, params)
    except CheckpointError as error:
        raise ConfigError(str(error)) from None
    return step, jax.device_put(params), steps * spec.frames_per_step, agent, checkpointer.events()


class _Counter:
    """Counts episodes on stderr: in place on a terminal, elsewhere a line for each, but no more than one a second."""

    def __init__(self, episodes: int):
        self._episodes = episodes
        self._started = time.monotonic()
        self._last = -math.inf

    def __call__(self, count: int, score: float) -> None:
        now = time.monotonic()
        left = eta(self._episodes - count, count / (now - self._started))
        text = f"episode {count} of {self._episodes}: return {score:g}, ETA {left}"
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}" + ("\n" if count == self._episodes else ""))
            sys.stderr.flush()
        elif now - self._last >= LINE_SECONDS or count == self._episodes:
            self._last = now
            print(f"onelife: {text}", file=sys.stderr)


def _play(
    config: ExperimentConfig, agent: Any, params: Any, streams: int, episodes: int, greedy: bool, seed: int
) -> dict[str, Any]:
    environment = make(config, seed, streams, block=0)
    try:
        played = play_episodes(Player(agent, params, streams, greedy, seed), environment, episodes, _Counter(episodes))
    finally:
        environment.close()
    returns = played.returns
    mean = float(returns.mean())
    return {
        "episodes": episodes,
        "return_mean": mean,
        "return_median": float(np.median(returns)),
        "return_std": float(returns.std(ddof=1)) if episodes > 1 else None,
        "return_min": float(returns.min()),
        "return_max": float(returns.max()),
        "human_normalised": human_normalised_score(config.game, mean),
        "length_mean": float(played.lengths.mean()),
        "truncated": played.truncated,
        "returns": returns.tolist(),
        "lengths": played.lengths.tolist(),
    }


def _play_endless(
    config: ExperimentConfig, agent: Any, params: Any, streams: int, greedy: bool, seed: int
) -> dict[str, Any]:
    environment = make(config, seed, streams, block=0)
    player = Player(agent, params, streams, greedy, seed)
    total = np.zeros(streams)
    try:
        time_step = environment.reset()
        for _ in range(ENDLESS_STEPS):
            time_step = environment.step(player(time_step))
            total += time_step.reward
    finally:
        environment.close()
    rates = total / ENDLESS_STEPS
    return {
        "steps_per_stream": ENDLESS_STEPS,
        "reward_per_step_mean": float(rates.mean()),
        "reward_per_step_std": float(rates.std(ddof=1)) if streams > 1 else None,
        "reward_per_step": rates.tolist(),
    }


def _print_result(result: dict[str, Any]) -> None:
    print(
        f"checkpoint {result['inner_updates']:,} updates, {result['env_frames']:,} frames; "
        f"{result['agent']} on {result['game']}, {result['policy']} actions, seed {result['seed']}"
    )
    if "reward_per_step_mean" in result:
        print(f"{result['game']} has no episodes: {result['streams']} streams of {result['steps_per_stream']:,} steps")
        spread = result["reward_per_step_std"]
        print(
            f"reward     {result['reward_per_step_mean']:.4f} a step"
            + (f" (standard deviation over streams {spread:.4f})" if spread is not None else "")
        )
        return
    spread = result["return_std"]
    print(f"episodes   {result['episodes']}, of {result['length_mean']:,.0f} steps on average")
    if result["truncated"]:
        print(f"           {result['truncated']} of them ended by the limit of frames")
    print(
        f"return     mean {result['return_mean']:.2f}, median {result['return_median']:.2f}"
        + (f", standard deviation {spread:.2f}" if spread is not None else "")
        + f", min {result['return_min']:g}, max {result['return_max']:g}"
    )
    if result["human_normalised"] is not None:
        print(f"human-normalised score {100 * result['human_normalised']:.1f} %  (0 % random, 100 % human)")
