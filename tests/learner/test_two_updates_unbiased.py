"""Every surrogate through a life of two updates on the 2-state MDP, in expectation over all of its paths.

Where η is inside the loss, the first update's batch enters by the second one's Jacobian alone: it is there that the
surrogates part. One stream, an episode of two steps before each update and one behind them, and a critic that is wrong.
The closed form goes forward, where the learner's sweep goes back: dθ/dη along each path, of θ⁰ and of η in the loss.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.config import (
    MetaInitConfig,
    SelfTunedConfig,
)
from learner.config import MetaGradientConfig, MetaOptimizerConfig
from learner.mesh import NoMesh
from tests.learner import problems
from tests.tiny_maml import EPISODES, HORIZON, RATE, agent_of, written_out
from tests.tiny_mdp import LOGITS, discounted_return, log_probability, trajectory

UPDATES = 2
CRITIC = np.array([0.7, -0.4])  # which nothing learns: baselines, and what is ahead of an episode that is cut off
RAW = {"gamma": 0.9, "policy_weight": 0.4}  # what STAC tunes, in the order of the columns 4 and 5
INNER_GAMMA, WEIGHT = (1 / (1 + np.exp(-raw)) for raw in RAW.values())


class Arm(NamedTuple):
    surrogate: str
    decay: float = 1.0
    reused: bool = False  # the first policy acts before the second update, too

    @property
    def inner(self):
        return {"surrogate": self.surrogate, "surrogate_decay": self.decay}


ARMS = {name: Arm(name) for name in ("plain", "lvc", "loaded_dice", "dice", "lsf", "off_policy", "off_policy_dice")}
ARMS |= {"loaded_dice of decay 0.5": Arm("loaded_dice", 0.5), "lsf of decay 0.3": Arm("lsf", 0.3)}
ARMS |= {f"{name}, reused": Arm(name, reused=True) for name in ("off_policy", "off_policy_dice")}
SAME = {frozenset(("lvc", "off_policy")), frozenset(("dice", "off_policy_dice"))}  # where the policy itself has acted


class Life(NamedTuple):
    """Whose meta-gradient, and which columns of dθ/d(θ⁰, γ, policy weight) are its."""

    agent: str
    objective: str
    columns: slice


LIVES = {"θ⁰": Life("maml", "next", slice(0, 4)), "loss": Life("stac", "all", slice(4, 6))}


def objective_of(life: Life, arm: Arm) -> str:
    """Outer losses are of a policy's own episodes here: reused ones score nothing."""
    return "next" if arm.reused else life.objective


def probabilities(logits):
    """[n] of each episode."""
    return jnp.exp(log_probability(jax.nn.log_softmax(logits.reshape(2, 2)), HORIZON))


def value(logits):
    """What the outer loss stands for."""
    return probabilities(logits) @ discounted_return(HORIZON, CRITIC)


@functools.cache
def closed_form(arm: Arm):
    """[3, 6] E[(dθ^k/d(θ⁰, γ, policy weight))ᵀ ∇J(θ^k)] behind 0, 1 and 2 updates."""
    with jax.enable_x64(True):
        return np.asarray(jax.jit(lambda: expected(arm))())


def expected(arm: Arm):
    def updated(logits, sensitivity, acted=None):
        """[4] and [4, 6] -> [n, 4] and [n, 4, 6] by each episode."""

        def added(gamma):
            return written_out(logits.reshape(2, 2), **arm.inner, acted=acted, gamma=gamma, critic=CRITIC)

        addend, jacobian = added(INNER_GAMMA)
        of_gamma = jax.jacfwd(lambda gamma: added(gamma)[0])(INNER_GAMMA) * INNER_GAMMA * (1 - INNER_GAMMA)
        own = [jnp.zeros((EPISODES, 4, 4)), of_gamma[..., None], addend[..., None] * (1 - WEIGHT)]
        passed = sensitivity + RATE * WEIGHT * jacobian @ sensitivity
        return logits + RATE * WEIGHT * addend, passed + RATE * WEIGHT * jnp.concatenate(own, axis=-1)

    start = jnp.asarray(LOGITS).reshape(-1), jnp.eye(4, 6)
    once = updated(*start)
    acted, second = None, jax.vmap(probabilities)(once[0])
    if arm.reused:
        acted, second = LOGITS, jnp.broadcast_to(probabilities(LOGITS), (EPISODES, EPISODES))
    twice = jax.vmap(lambda *x: updated(*x, acted))(*once)
    first = probabilities(LOGITS)
    found, mass = [], [jnp.ones(1), first, (first[:, None] * second).reshape(-1)]
    for share, (logits, sensitivity) in zip(mass, (start, once, twice), strict=True):
        gradient = jax.vmap(jax.grad(value))(logits.reshape(-1, 4))
        found.append(jnp.einsum("n,ni,nij->j", share, gradient, sensitivity.reshape(-1, 4, 6)))
    return jnp.stack(found)


def closed_meta_gradient(life: Life, arm: Arm, objective: str):
    behind = closed_form(arm)[:, life.columns]
    return behind.mean(axis=0) if objective == "all" else behind[-1]


def learner_of(life: Life, arm: Arm):
    agent = agent_of(
        life.agent,
        {"gamma": INNER_GAMMA, "policy_weight": WEIGHT} | arm.inner,
        meta_init=MetaInitConfig(**RAW),
        self_tuned=SelfTunedConfig(() if life.agent == "maml" else tuple(RAW)),
    )
    start = {"policy": {"w": jnp.asarray(LOGITS)}, "value": {"w": jnp.asarray(CRITIC)[:, None]}}
    own = {"init_meta": lambda key: {"params": start}} if life.agent == "maml" else {"init": lambda key: start}
    return problems.learner(
        agent._replace(**own),
        window=UPDATES,
        lags=(0, 1) if arm.reused else (0,),
        streams=1,
        optimizer=problems.optimizer("sgd", learning_rate=RATE * HORIZON, anneal=False, max_grad_norm=0.0),
        meta_optimizer=MetaOptimizerConfig(name="sgd", learning_rate=1.0),
        meta_gradient=MetaGradientConfig(objective=objective_of(life, arm), baseline="none", diagnostics=0),
        mesh=NoMesh(),
    )


def expected_through_the_learner(life: Life, arm: Arm):
    """Σ over the three episodes of their probability times the step of η that the learner takes."""
    learner = learner_of(life, arm)
    born = learner.init(jax.random.key(0))

    def own(state):
        eta = state.meta.params
        return eta["params"]["policy"]["w"].reshape(-1) if life.agent == "maml" else jnp.stack([eta[x] for x in RAW])

    def of(path):
        def batch(chosen, acting, version):
            episode = jax.tree.map(lambda x: jnp.asarray(x)[:, chosen, None], every)
            return episode._replace(
                behaviour_logits=acting[jnp.argmax(episode.observation[:-1], axis=-1)],
                params_version=jnp.full(1, version, jnp.int32),
            )

        state, probability, acting = born, 1.0, None
        for k in range(UPDATES + 1):
            table = state.inner.params["policy"]["w"]
            if not (arm.reused and k == 1):
                acting, version = table, k
            probability *= probabilities(acting)[path[k]]
            state, _ = learner.step(state, batch(path[k], acting, version))
        return probability * HORIZON * (own(state) - own(born))

    every = trajectory(HORIZON, LOGITS)._replace(params_version=())
    paths = np.indices((EPISODES,) * (UPDATES + 1)).reshape(UPDATES + 1, -1).T
    return jax.jit(jax.vmap(of))(paths).sum(axis=0)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
@pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS)
def test_the_learners_expectation_is_the_closed_form(arm, life):
    closed = closed_meta_gradient(life, arm, objective_of(life, arm))
    np.testing.assert_allclose(expected_through_the_learner(life, arm), closed, rtol=1e-9)


def apart(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize("life, from_plain", [(LIVES["θ⁰"], 0.1), (LIVES["loss"], 0.02)], ids=LIVES)
def test_no_surrogate_can_be_taken_for_another(life, from_plain):
    """Or one decay for another, or the policy itself for the one that acted."""
    for pair in itertools.permutations(ARMS, 2):
        arms = [ARMS[name] for name in pair]
        objective = "next" if any(arm.reused for arm in arms) else life.objective
        differ = apart(*(closed_meta_gradient(life, arm, objective) for arm in arms))
        if frozenset(pair) in SAME:
            assert differ < 1e-12, pair
        else:
            assert differ > (from_plain if "plain" in pair else 0.003), (pair, differ)


def test_behind_the_first_update_the_surrogates_of_one_gradient_are_one():
    """To an η inside the loss. LSF's update is another one."""
    behind = {name: closed_form(arm)[1, LIVES["loss"].columns] for name, arm in ARMS.items()}
    for name, arm in ARMS.items():
        differ = apart(behind[name], behind["plain"])
        assert differ > 0.1 if arm.surrogate == "lsf" else differ < 1e-12, (name, differ)
