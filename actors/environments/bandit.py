"""The bandit of No DICE (Vuorio et al. 2021, Appendix B): many arms, few of them any good. Pure JAX."""

import dataclasses
from typing import NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from agents.types import FIRST, MID, Array, EnvironmentSpec


class BanditState(NamedTuple):
    key: Array  # [2] uint32
    means: Array  # [arms] float32
    pulls: Array  # [] int32, so far


@dataclasses.dataclass(frozen=True)
class Bandit:
    """Stateless arms behind `base.JaxEnvironment`, one task a life.

    Pulling arm a pays a normal reward of mean m_a and deviation `noise`. A task's means are exp(u), u uniform over
    [-100, 1] for each arm: about 0.3 of 30 arms have a mean above 1, nearly all others pay nothing. Every pull stands
    alone: discount 0, and no ends of episodes. Observation: [1] float32, always 1.

    `reset` takes the key of the task, too; without it the task is that of the number `task`.
    """

    arms: int = 30
    noise: float = 2.0
    task: int = 0

    has_tasks = True

    @property
    def spec(self) -> EnvironmentSpec:
        return EnvironmentSpec("bandit", (1,), np.float32, self.arms, frame_stack=1, frames_per_step=1)

    def reset(self, key: Array, task_key: Array | None = None) -> tuple[BanditState, dm_env.TimeStep]:
        """key [2] uint32 -> (state, FIRST)."""
        task_key = jax.random.PRNGKey(self.task) if task_key is None else task_key
        means = jnp.exp(jax.random.uniform(task_key, (self.arms,), jnp.float32, -100.0, 1.0))
        return BanditState(key, means, jnp.int32(0)), self._time_step(FIRST, 0.0, 1.0)

    def step(self, state: BanditState, action: Array) -> tuple[BanditState, dm_env.TimeStep]:
        noise = jax.random.normal(jax.random.fold_in(state.key, state.pulls), (), jnp.float32)
        reward = state.means[action] + self.noise * noise
        return state._replace(pulls=state.pulls + 1), self._time_step(MID, reward, 0.0)

    def _time_step(self, step_type: np.int8, reward: Array, discount: float) -> dm_env.TimeStep:
        return dm_env.TimeStep(
            step_type=jnp.asarray(step_type, jnp.int8),
            reward=jnp.asarray(reward, jnp.float32),
            discount=jnp.float32(discount),
            observation=jnp.ones(1, jnp.float32),
        )
