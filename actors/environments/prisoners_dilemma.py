"""The iterated prisoner's dilemma, both players in one environment (Foerster et al. 2018). Pure JAX."""

import dataclasses
from typing import NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from actors.environments.tabular_mdp import MDP
from agents.types import FIRST, LAST, MID, Array, EnvironmentSpec

# A joint action is 2 · own + other, each 0 to defect and 1 to cooperate: DD, DC, CD, CC, one's own first.
OWN_REWARD = np.array([-2.0, 0.0, -3.0, -1.0], np.float32)
OTHER_REWARD = OWN_REWARD[[0, 2, 1, 3]]  # the game is symmetric


def payoffs() -> tuple[MDP, MDP]:
    """The game as a Markov decision process of joint actions, as it pays oneself and as it pays the other.

    transition [5, 4, 5]: state 0 is the start, state 1 + a follows the joint action a; reward [5, 4].
    """
    transition = jnp.broadcast_to(jnp.eye(5)[1:], (5, 4, 5))
    own, other = (MDP(transition, jnp.broadcast_to(jnp.asarray(r), (5, 4))) for r in (OWN_REWARD, OTHER_REWARD))
    return own, other


class DilemmaState(NamedTuple):
    cell: Array  # int32: 0 at the start, then 1 + the last joint action
    clock: Array  # int32, rounds of this game
    over: Array  # bool


@dataclasses.dataclass(frozen=True)
class PrisonersDilemma:
    """Two players who each defect or cooperate, round by round, behind `base.JaxEnvironment`.

    An action is a joint one, of both players, and the reward is the first player's; so a joint policy's log-probability
    is the sum of theirs. A round pays -1 each if both cooperate, -2 each if both defect, else 0 to who defects and -3
    to who does not. Observation: the last round's joint action, or that there was none, one-hot [5] float32. Games
    never end by themselves; after `rounds` rounds they are truncated. Nothing in the game is random.

    An unroll of `rounds` + 1 steps holds one whole game and its reset transition.
    """

    rounds: int = 100

    @property
    def spec(self) -> EnvironmentSpec:
        return EnvironmentSpec("prisoners_dilemma", (5,), np.float32, 4, frame_stack=1, frames_per_step=1)

    def reset(self, key: Array) -> tuple[DilemmaState, dm_env.TimeStep]:
        """key [2] uint32 (not used) -> (state, FIRST)."""
        del key
        state = DilemmaState(jnp.int32(0), jnp.int32(0), jnp.bool_(False))
        return state, self._time_step(state, FIRST, 0.0)

    def step(self, state: DilemmaState, action: Array) -> tuple[DilemmaState, dm_env.TimeStep]:
        clock = jnp.where(state.over, 0, state.clock + 1)
        over = clock == self.rounds
        cell = jnp.where(state.over, 0, 1 + action).astype(jnp.int32)
        reward = jnp.where(state.over, 0.0, jnp.asarray(OWN_REWARD)[action])
        step_type = jnp.where(state.over, FIRST, jnp.where(over, LAST, MID))
        new = DilemmaState(cell, clock, over)
        return new, self._time_step(new, step_type, reward)

    def _time_step(self, state: DilemmaState, step_type: Array, reward: Array) -> dm_env.TimeStep:
        return dm_env.TimeStep(
            step_type=jnp.asarray(step_type, jnp.int8),
            reward=jnp.asarray(reward, jnp.float32),
            discount=jnp.float32(1.0),
            observation=jax.nn.one_hot(state.cell, 5, dtype=jnp.float32),
        )
