"""Atari games through EnvPool, with every semantic decided here rather than by EnvPool's defaults."""

from collections.abc import Sequence
from typing import Any, Literal

import dm_env
import numpy as np

from actors.environments.actions import checked_actions
from actors.environments.atari_games import FULL_ACTIONS, MINIMAL_ACTIONS
from actors.environments.names import match_name
from agents.types import LAST, Array, EnvironmentSpec

Protocol = Literal["sticky", "noop"]

FRAME_SKIP = 4
FRAME_STACK = 4
FRAME_SIZE = 84

_PROTOCOLS: dict[str, dict[str, Any]] = {
    # Machado et al. (2018), Section 5: stochasticity from repeated actions alone, every game with its full action set.
    # EnvPool needs at least one no-op frame at reset (0 crashes it); one is the same for every episode.
    "sticky": {"repeat_action_probability": 0.25, "full_action_space": True, "noop_max": 1},
    # Mnih et al. (2015), Methods: stochasticity from 1 to 30 no-op frames at reset alone, minimal action sets.
    "noop": {"repeat_action_probability": 0.0, "full_action_space": False, "noop_max": 30},
}


def list_games() -> list[str]:
    """Every game that EnvPool ships, in snake case, sorted."""
    return sorted(MINIMAL_ACTIONS)


def canonical_game(name: str) -> str:
    """Any spelling of a game ("ms_pacman", "MsPacman", "MsPacman-v5") -> its snake-case name.

    Raises ValueError, with the nearest match, for a game that EnvPool does not ship. Starts and imports nothing.
    """
    return match_name(name, MINIMAL_ACTIONS, f"one of the {len(MINIMAL_ACTIONS)} Atari games that EnvPool ships")


def task_id(name: str) -> str:
    """Any spelling of a game -> EnvPool's task id, e.g. "MsPacman-v5". Raises as `canonical_game` does."""
    return "".join(word.capitalize() for word in canonical_game(name).split("_")) + "-v5"


def atari_spec(name: str, protocol: Protocol) -> EnvironmentSpec:
    """The spec of a game under a protocol, without starting an emulator."""
    game = canonical_game(name)
    actions = FULL_ACTIONS if _PROTOCOLS[protocol]["full_action_space"] else MINIMAL_ACTIONS
    return EnvironmentSpec(
        name=f"atari:{game}",
        observation_shape=(FRAME_STACK, FRAME_SIZE, FRAME_SIZE),
        observation_dtype=np.uint8,
        num_actions=actions[game],
        frame_stack=FRAME_STACK,
        frames_per_step=FRAME_SKIP,
    )


class Atari:
    """B emulators of one game behind `base.Environment`.

    Observations are the last 4 grey frames [B, 4, 84, 84] uint8, oldest first; at FIRST all four are the same one.
    Each agent step repeats its action for 4 emulator frames and shows the maximum of the last two. Rewards are raw.
    Losing a life ends nothing; a game over is a termination, `max_episode_frames` a truncation.

    Protocols: `sticky` repeats the previous action with probability 0.25 at every emulator frame, with the full action
    set; `noop` starts each episode with 1 to 30 no-op frames, with the game's minimal action set. Neither presses
    FIRE at reset, as the papers that these protocols come from do not: starting the game is for the agent to learn.
    """

    def __init__(
        self,
        game: str,
        seeds: Sequence[int] | np.ndarray,
        protocol: Protocol = "sticky",
        max_episode_frames: int = 108_000,
        threads: int = 0,
        render: bool = False,
    ):
        """One emulator per seed.

        Args:
          game: any spelling that `canonical_game` takes.
          seeds: one int in [0, 2^31) for each stream; a stream's future depends on its own seed and actions only.
          protocol: "sticky" or "noop".
          max_episode_frames: emulator frames (no-op frames not counted) after which an episode is truncated; rounded
            down to whole agent steps of 4 frames.
          threads: EnvPool's threads; 0 takes one for each stream, up to the machine's cores.
          render: make `render` available.
        """
        import envpool  # imported only where an emulator starts: it takes about two seconds, most of it not Atari's

        if max_episode_frames < FRAME_SKIP:
            raise ValueError(
                f"environment.max_episode_frames: {max_episode_frames} is less than one agent step ({FRAME_SKIP})"
            )
        self.spec = atari_spec(game, protocol)
        self.num_streams = len(seeds)
        self._pool = envpool.make_dm(
            task_id(game),
            num_envs=self.num_streams,
            num_threads=threads,
            seed=[int(seed) for seed in seeds],
            max_episode_steps=max_episode_frames // FRAME_SKIP,  # EnvPool counts agent steps
            frame_skip=FRAME_SKIP,
            stack_num=FRAME_STACK,
            img_height=FRAME_SIZE,
            img_width=FRAME_SIZE,
            gray_scale=True,
            episodic_life=False,
            reward_clip=False,
            use_fire_reset=False,
            **_PROTOCOLS[protocol],
            **({"render_mode": "rgb_array"} if render else {}),
        )
        engine_actions = int(self._pool.action_spec().num_values)
        if engine_actions != self.spec.num_actions:
            raise RuntimeError(
                f"{self.spec.name}: EnvPool has {engine_actions} actions, atari_games.py says {self.spec.num_actions}"
            )

    def reset(self) -> dm_env.TimeStep:
        return self._time_step(self._pool.reset())

    def step(self, action: Array) -> dm_env.TimeStep:
        return self._time_step(self._pool.step(checked_actions(action, self.spec, self.num_streams)))

    def get_state(self) -> None:
        """None: EnvPool cannot save an emulator. Whoever resumes starts new episodes, and has to say so."""
        return None

    def set_state(self, state: Any) -> dm_env.TimeStep:
        raise RuntimeError(f"{self.spec.name}: EnvPool cannot restore an emulator; use reset")

    def render(self) -> np.ndarray:
        """The screens in colour as the emulators show them now, [B, 210, 160, 3] uint8; needs `render=True`."""
        return self._pool.render(env_ids=np.arange(self.num_streams, dtype=np.int32))

    def close(self) -> None:
        self._pool.close()

    def _time_step(self, raw: dm_env.TimeStep) -> dm_env.TimeStep:
        """EnvPool's time step -> ours. EnvPool gives discount 0 at a truncation too; `terminated` tells them apart."""
        step_type = np.asarray(raw.step_type, np.int8)
        terminated = (step_type == LAST) & (np.asarray(raw.observation.terminated) != 0)
        return dm_env.TimeStep(
            step_type=step_type,
            reward=np.asarray(raw.observation.reward, np.float32),
            discount=np.where(terminated, 0, 1).astype(np.float32),
            observation=raw.observation.obs,
        )
