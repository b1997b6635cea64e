"""A 2-state MDP small enough to enumerate every episode, with numbers that nothing makes equal."""

import itertools

import numpy as np

from actors.environments.tabular_mdp import MDP
from agents.types import FIRST, LAST, MID, Trajectory

GAMMA = 0.8
TASK = MDP(
    transition=np.array([[[0.7, 0.3], [0.2, 0.8]], [[0.4, 0.6], [0.9, 0.1]]]),
    reward=np.array([[0.9, 0.1], [1.3, 0.5]]),
)
LOGITS = np.array([[0.4, -0.3], [0.1, 0.6]])


def episodes(horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """All episodes of so many steps: states [H+1, n], actions [H, n]."""
    steps = list(itertools.product(range(2), repeat=2))  # what an action and where to
    paths = np.array(list(itertools.product(steps, repeat=horizon)))  # [n, H, 2]
    states = np.concatenate([np.zeros((1, len(paths)), int), paths[:, :, 1].T])
    return states, paths[:, :, 0].T


def trajectory(horizon: int, behaviour: np.ndarray) -> Trajectory:
    """Every episode as a stream, cut off after its last step."""
    states, actions = episodes(horizon)
    step_type = np.full(states.shape, MID)
    step_type[0], step_type[-1] = FIRST, LAST
    return Trajectory(
        observation=np.eye(2)[states],
        step_type=step_type,
        action=actions.astype(np.int32),
        behaviour_logits=behaviour[states[:-1]],
        reward=TASK.reward[states[:-1], actions],
        discount=np.ones(actions.shape),
        core_state=(),
        params_version=np.zeros(actions.shape[1], np.int32),
    )


def log_probability(log_policy, horizon: int):
    """[n] of each episode under a policy with these log-probabilities [S, A] (numpy or jax)."""
    states, actions = episodes(horizon)
    moves = np.log(TASK.transition[states[:-1], actions, states[1:]])
    return (moves + log_policy[states[:-1], actions]).sum(axis=0)


def discounted_return(horizon: int, end) -> np.ndarray:
    """[n] of each episode, worth `end` [S] where it is cut off."""
    states, actions = episodes(horizon)
    return (
        GAMMA ** np.arange(horizon) @ TASK.reward[states[:-1], actions] + GAMMA**horizon * np.asarray(end)[states[-1]]
    )
