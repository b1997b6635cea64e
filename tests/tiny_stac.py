"""STAC on an MDP of two states: what its updates are, written out. η is its discount and its policy's weight; θ a table
of logits, 0 at birth; an update is from one episode of two steps of each stream."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from actors.environments.tabular_mdp import MDP, TabularMDP
from agents.types import FIRST, LAST, MID, Trajectory
from configs.presets import preset
from configs.tree import override

HORIZON = 2
RATE = 12.0  # of θ: what is done after an update is another thing than before
ENVIRONMENT = TabularMDP(states=2, actions=2, horizon=HORIZON, concentration=1.0, task=3)
ETA = {"gamma": -1.0, "policy_weight": 0.5}  # raw, in the order of η's vector

STAC = override(
    preset("smoke"),
    {
        "game": "tabular_mdp",
        "environment.mdp_states": ENVIRONMENT.states,
        "environment.mdp_actions": ENVIRONMENT.actions,
        "environment.mdp_horizon": HORIZON,
        "environment.mdp_concentration": ENVIRONMENT.concentration,
        "environment.task": ENVIRONMENT.task,
        "streams": 1,
        "unroll": HORIZON + 1,  # one episode and its reset
        "lag": "0",
        "window": 1,
        "correction": 0.0,
        "network.torso": "table",
        "self_tuned.parameters": tuple(ETA),
        "meta_init.gamma": ETA["gamma"],
        "meta_init.policy_weight": ETA["policy_weight"],
        "inner.value_weight": 0.0,
        "inner.entropy_weight": 0.0,
        "inner.reward_clip": 0.0,
        "inner.reduction": "mean",
        "outer.gamma": 1.0,
        "outer.value_weight": 0.0,
        "outer.entropy_weight": 0.0,
        "outer.kl_weight": 0.0,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": RATE,
        "optimizer.anneal": False,
        "optimizer.max_grad_norm": 0.0,
        "meta_optimizer.learning_rate": 0.0,
        "meta_gradient.objective": "all",
        "meta_gradient.diagnostics": 0,
    },
)

# Every episode: the first action, where it leads, the second action. Where that one leads changes nothing.
FIRST_ACTION, STATE, SECOND_ACTION = np.array(list(itertools.product(range(2), repeat=3))).T
EPISODES = len(STATE)


def sample_task() -> MDP:
    """In numpy and float64."""
    task = ENVIRONMENT.sample_task(jax.random.PRNGKey(ENVIRONMENT.task))
    task = jax.tree.map(lambda x: np.asarray(x, np.float64), task)
    return task._replace(transition=task.transition / task.transition.sum(axis=-1, keepdims=True))


def log_policy(logits):
    return logits - jnp.log(jnp.sum(jnp.exp(logits), axis=-1, keepdims=True))


def log_probability(logits, chosen, task):
    """[n, streams] of episodes `chosen` [n, streams], acted by a table [n, S, A] each."""
    first, state, second = FIRST_ACTION[chosen], STATE[chosen], SECOND_ACTION[chosen]
    taken, every = log_policy(logits), np.arange(len(chosen))[:, None]
    return np.log(task.transition[0, first, state]) + taken[every, 0, first] + taken[every, state, second]


def reward(chosen, task):
    """[n, streams] a mean over transitions; the reset's is 0."""
    return (task.reward[0, FIRST_ACTION[chosen]] + task.reward[STATE[chosen], SECOND_ACTION[chosen]]) / (HORIZON + 1)


def updated(logits, chosen, raw, task):
    """[n, S, A] after an update with the raw (γ, policy weight)."""
    discount, weight = (1 / (1 + jnp.exp(-x)) for x in raw)
    first, state, second = FIRST_ACTION[chosen], STATE[chosen], SECOND_ACTION[chosen]
    policy, every = jnp.exp(log_policy(logits)), np.arange(len(chosen))[:, None]
    later, ascent = task.reward[state, second], 0.0
    for s, a, gain in (
        (np.zeros_like(state), first, task.reward[0, first] + discount * later),
        (state, second, later),
    ):
        score = np.eye(2)[a] - policy[every, s]
        ascent += np.eye(2)[s][..., None] * (gain[..., None] * score)[..., None, :]
    return logits + RATE * weight / (HORIZON + 1) * jnp.mean(ascent, axis=1)


def trajectory(chosen, table, k, task) -> Trajectory:
    """Episodes `chosen` [streams] and their resets as batch k, acted by a table."""
    first, state, second = (jnp.asarray(x)[chosen] for x in (FIRST_ACTION, STATE, SECOND_ACTION))
    zeros, rewards = jnp.zeros_like(state), jnp.asarray(task.reward)
    visited = jnp.stack([zeros, state, zeros, zeros])
    return Trajectory(
        observation=jnp.eye(2)[visited],
        step_type=np.tile([[FIRST], [MID], [LAST], [FIRST]], (1, len(chosen))),
        action=jnp.stack([first, second, zeros]).astype(jnp.int32),
        behaviour_logits=table[visited[:-1]],
        reward=jnp.stack([rewards[0, first], rewards[state, second], 0.0 * zeros]),
        discount=jnp.ones((HORIZON + 1, len(chosen))),
        core_state=(),
        params_version=jnp.full(len(chosen), k, jnp.int32),
    )


def probabilities(table, task):
    """[EPISODES] of all of them, acted by a table."""
    policy = jax.nn.softmax(table)
    moves = task.transition[0, FIRST_ACTION, STATE]
    return moves * policy[0, FIRST_ACTION] * policy[STATE, SECOND_ACTION]
