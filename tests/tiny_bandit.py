"""No DICE's bandit learner with two arms that pay without noise: what its updates are, written out, and its life by the
project's own learner. η is two learning rates, the early one of the first update and the late one of all others."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from actors.environments.bandit import Bandit
from agents.types import FIRST, MID, Trajectory
from configs.tree import override
from learner.learner import Learner
from learner.state import LearnerState
from scripts.studies.nodice import bandit
from tests.learner import problems

EARLY_UPDATES = 1
ETA = {"early": 0.0, "late": 1.0}  # raw, in the order of η's vector
RAW = np.array(list(ETA.values()))
ENVIRONMENT = Bandit(arms=2, noise=0.0, task=16607)  # pays 0.35 and 1.28
BANDIT = override(
    bandit(),
    {
        "environment.arms": ENVIRONMENT.arms,
        "environment.noise": ENVIRONMENT.noise,
        "environment.task": ENVIRONMENT.task,
        "bandit.early": ETA["early"],
        "bandit.late": ETA["late"],
        "bandit.early_updates": EARLY_UPDATES,
    },
)


def arms() -> np.ndarray:
    """[2] what they pay."""
    return np.asarray(ENVIRONMENT.reset(jax.random.PRNGKey(0))[0].means, np.float64)


def every_path(batches: int, streams: int) -> np.ndarray:
    """[paths, batches, streams] pulls."""
    return np.array(list(itertools.product(range(2), repeat=batches * streams))).reshape(-1, batches, streams)


class Batch(NamedTuple):
    """Of each path, [paths]."""

    log_probability: Any  # of the pulls
    reward: Any  # mean over streams
    expected: Any  # what the policy earns in expectation


def followed(paths, raw, pays, surrogate="plain", memory=1.0) -> list[Batch]:
    """All batches of every path. raw: [updates, 2] of each update; memory: how much of dθ/dη an update passes on."""
    logits, batches = jnp.zeros((len(paths), 2)), []
    for k in range(paths.shape[1]):
        pulled, reward = np.eye(2)[paths[:, k]], pays[paths[:, k]]  # [paths, streams, arms], [paths, streams]
        log_policy = jax.nn.log_softmax(logits)
        log_probability = jnp.sum(pulled * log_policy[:, None], axis=(1, 2))
        batches.append(Batch(log_probability, reward.mean(axis=1), jnp.exp(log_policy) @ pays))
        if k == len(raw):
            break
        kept = memory * logits + (1 - memory) * jax.lax.stop_gradient(logits)
        log_policy = jax.nn.log_softmax(kept)
        ascent = pulled - jnp.exp(log_policy)[:, None]
        if surrogate == "dice":  # the derivative of the score has its outer product with itself on top
            own = jnp.sum(pulled * log_policy[:, None], axis=-1, keepdims=True)
            ascent += (own - jax.lax.stop_gradient(own)) * jax.lax.stop_gradient(ascent)
        rate = jnp.log1p(jnp.exp(raw[k, 0 if k < EARLY_UPDATES else 1]))
        logits = kept + rate * jnp.mean(reward[..., None] * ascent, axis=1)
    return batches


def lived(
    learner: Learner, path, pays, before: Callable[[LearnerState, int], LearnerState] = lambda state, k: state
) -> tuple[Any, dict[str, Any]]:
    """The probability of a path ([batches, streams]) under the learner's own parameters, and its last step's metrics.

    `before`: what happens to the state before batch k.
    """
    state, probability, metrics = problems.born(learner), 1.0, {}
    streams = path.shape[1]
    for k, pulls in enumerate(path):
        state = before(state, k)
        logits = state.inner.params["logits"]
        probability *= jnp.prod(jax.nn.softmax(logits)[pulls])
        batch = Trajectory(
            observation=jnp.ones((2, streams, 1)),
            step_type=np.tile([[MID if k else FIRST], [MID]], (1, streams)),
            action=pulls[None],
            behaviour_logits=jnp.broadcast_to(logits, (1, streams, 2)),
            reward=jnp.asarray(pays)[pulls][None],
            discount=jnp.zeros((1, streams)),
            core_state=(),
            params_version=jnp.full(streams, k, jnp.int32),
        )
        state, metrics = learner.step(state, batch)
    return probability, metrics
