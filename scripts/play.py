"""Playing with fixed parameters: complete episodes without bias, and films of them."""

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from configs.experiment import ExperimentConfig
from configs.tree import ConfigError

ENDLESS_GAMES = ("two_colors", "bandit")
DRAWN_GAMES = ("catch", "two_colors")
VIDEO_STEPS = 500  # filmed of a game without episodes
_CODECS = {".mp4": "libx264", ".webm": "libvpx-vp9"}


class Episodes(NamedTuple):
    """Complete episodes, each stream's first ones in order of their end."""

    returns: np.ndarray  # [N] float64, raw
    lengths: np.ndarray  # [N] int64, agent steps
    truncated: int  # how many of them hit the limit of frames


class Player:
    """Acts with fixed parameters in a batch of streams."""

    def __init__(self, agent: Any, params: Any, num_streams: int, greedy: bool, seed: int):
        """`greedy` takes the most probable action; otherwise actions are drawn, all from `seed`."""
        import jax
        import jax.numpy as jnp

        from actors.draw import draw

        self._params = params
        self._core_state = agent.initial_state(num_streams)
        self._key = jax.random.PRNGKey(seed)
        self._calls = 0

        @jax.jit
        def act(params: Any, observation: Any, step_type: Any, core_state: Any, key: Any, call: int) -> Any:
            output, core_state = agent.step(params, observation, step_type, core_state)
            if greedy:
                return jnp.broadcast_to(output.logits.argmax(-1), step_type.shape), core_state
            action = draw(jax.random.fold_in(key, call), jax.nn.softmax(output.logits), step_type.shape)
            return action, core_state

        self._act = act

    def __call__(self, time_step: Any) -> np.ndarray:
        """dm_env.TimeStep of B streams -> actions [B]."""
        observation, step_type = time_step.observation, time_step.step_type
        action, self._core_state = self._act(
            self._params, observation, step_type, self._core_state, self._key, self._calls
        )
        self._calls += 1
        return np.asarray(action, np.int32)


def make(config: ExperimentConfig, seed: int, streams: int, block: int, render: bool = False) -> Any:
    """The environment of a run, with seeds that its training never uses; distinct ones for each `block`."""
    from actors.environments.make import MAX_ACTORS, MAX_INCARNATIONS, make_environment, stream_seeds

    # Seeds of the last actors and replacements that there can be: not those of training, even for the run's seed.
    seeds = stream_seeds(seed, MAX_ACTORS - 1 - block, MAX_INCARNATIONS - 1, streams)
    return make_environment(config.game, config.environment, seeds, config.environment.threads, render)


def play_episodes(
    player: Player, environment: Any, episodes: int, on_end: Callable[[int, float], None] = lambda count, score: None
) -> Episodes:
    """Plays `episodes` complete episodes, split evenly over the streams before the first one starts.

    A stream's quota is fixed, so that short episodes are not preferred, as they are among the first N that end.
    `on_end` is told how many have ended, and the return of the last one.
    """
    streams = environment.num_streams
    quota = np.full(streams, episodes // streams) + (np.arange(streams) < episodes % streams)
    returns, lengths, truncated = [], [], 0
    for reward, length, discount, stream in _ends(player, environment):
        if quota[stream]:
            quota[stream] -= 1
            returns.append(reward)
            lengths.append(length)
            truncated += int(discount > 0)
            on_end(len(returns), reward)
        if not quota.any():
            break
    return Episodes(np.array(returns, np.float64), np.array(lengths, np.int64), truncated)


def _ends(player: Player, environment: Any) -> Iterator[tuple[float, int, float, int]]:
    """Plays for ever; (return, agent steps, discount, stream) of each episode as it ends."""
    from agents.types import FIRST, LAST

    time_step = environment.reset()
    returns = np.zeros(environment.num_streams, np.float64)
    lengths = np.zeros(environment.num_streams, np.int64)
    while True:
        time_step = environment.step(player(time_step))
        real = time_step.step_type != FIRST
        returns = np.where(real, returns + time_step.reward, 0)
        lengths = np.where(real, lengths + 1, 0)
        for stream in np.flatnonzero(time_step.step_type == LAST):
            yield float(returns[stream]), int(lengths[stream]), float(time_step.discount[stream]), int(stream)


def check_video(path: Path, game: str) -> None:
    """Raises ConfigError where no video of `game` can be written to `path`, as far as that can be told before."""
    if game not in DRAWN_GAMES and not game.startswith("atari:"):
        raise ConfigError(f"--video: {game} has no picture; only Atari, {' and '.join(DRAWN_GAMES)} have one")
    if path.suffix not in (*_CODECS, ".gif"):
        raise ConfigError(f"--video: {path} does not end in .mp4, .webm or .gif")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--video: there is no directory {path.absolute().parent}")
    missing = [name for name in ("imageio", "imageio_ffmpeg") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"--video: {missing[0]} is missing; install it by pip install -e '.[video]'")


def film(config: ExperimentConfig, agent: Any, params: Any, greedy: bool, seed: int, path: Path) -> tuple[float, int]:
    """Films one episode, of at most VIDEO_STEPS steps in an endless game; returns its return and agent steps."""
    import imageio

    from agents.types import LAST

    atari = config.game.startswith("atari:")
    environment = make(config, seed, 1, block=1, render=True)
    player = Player(agent, params, 1, greedy, seed + 1)
    rate = 15 if atari else 5  # 60 emulator frames a second, 4 a step
    if path.suffix in _CODECS:
        settings = {"fps": rate, "codec": _CODECS[path.suffix], "macro_block_size": 2}
    else:
        settings = {"duration": 1000 / rate, "loop": 0}
    score, length = 0.0, 0
    try:
        time_step = environment.reset()
        with warnings.catch_warnings():
            # imageio starts ffmpeg by fork and exec, which is safe beside JAX's threads; a bare fork would not be.
            warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
            writer = imageio.get_writer(path, **settings)
            writer.append_data(_screen(config.game, environment, time_step))
        with writer:
            while time_step.step_type[0] != LAST and not (config.game in ENDLESS_GAMES and length == VIDEO_STEPS):
                time_step = environment.step(player(time_step))
                score += float(time_step.reward[0])
                length += 1
                writer.append_data(_screen(config.game, environment, time_step))
    except OSError as error:
        raise ConfigError(f"--video: {path} cannot be written: {error.strerror or error}") from None
    finally:
        environment.close()
    return score, length


def _screen(game: str, environment: Any, time_step: Any) -> np.ndarray:
    """What the first stream looks like, [height, width, 3] uint8, both even as video codecs want them."""
    if game.startswith("atari:"):
        return np.repeat(np.repeat(environment.render()[0], 2, axis=0), 2, axis=1)
    observation = np.asarray(time_step.observation[0])
    if game == "catch":
        board = np.zeros(observation.shape, np.int64)
        board[:-1] = observation[:-1] * 1
        board[-1] = observation[-1] * 2
    else:  # two_colors: one-hot rows and columns of the agent and the two objects
        board = np.zeros((5, 5), np.int64)
        cells = observation.reshape(3, 2, 5).argmax(-1)
        for colour, (row, column) in zip((3, 4, 2), cells[[1, 2, 0]], strict=True):
            board[row, column] = colour
    colours = np.array([[24, 26, 32], [240, 200, 80], [110, 190, 250], [230, 90, 90], [110, 200, 120]], np.uint8)
    cell = 48
    picture = np.repeat(np.repeat(colours[board], cell, axis=0), cell, axis=1)
    picture[::cell], picture[:, ::cell] = 48, 48
    return picture
