"""MAML's meta-gradient on the 2-state MDP, through the project's own parts: one update from two episodes of two steps,
and any episode behind it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from agents.config import AgentSettings, InnerLossConfig, NetworkConfig, OuterLossConfig
from agents.make import make_agent
from agents.types import EnvironmentSpec
from configs.tree import override
from learner.config import MetaGradientConfig, MetaOptimizerConfig
from learner.mesh import NoMesh
from scripts.studies.tabular import NOTHING_REUSED, Estimate, Exact, Memory, Tabular, tabular
from tests.learner import problems
from tests.tiny_mdp import GAMMA, LOGITS, TASK, discounted_return, episodes, log_probability, trajectory

HORIZON, STREAMS = 2, 2
RATE = 1.5  # of θ: the terms of second order are large
STATES, ACTIONS = episodes(HORIZON)
EPISODES = STATES.shape[1]
REWARDS = TASK.reward[STATES[:-1], ACTIONS]
DISCOUNTS = GAMMA ** np.arange(HORIZON)
SPEC = EnvironmentSpec("tiny", (2,), np.float64, num_actions=2, frame_stack=1, frames_per_step=1)
SAMPLES = 100_000


def value(logits):
    """J(θ), the expected return of an episode."""
    return jnp.exp(log_probability(jax.nn.log_softmax(logits), HORIZON)) @ discounted_return(HORIZON, np.zeros(2))


def written_out(logits, surrogate, surrogate_decay=1.0, *, acted=None, gamma=GAMMA, critic=(0.0, 0.0)):
    """Of every episode: what it adds to the update [n, 4], and the Jacobian of that [n, 4, 4] as the surrogate has it.
    By the surrogates' definitions, of scores, their derivatives and their products; nothing is differentiated twice.

    Args:
      logits: [S, A] that are updated.
      acted: [S, A] of the policy that acted, read by the surrogates with importance ratios; None: it is the same.
      gamma: the inner loss's discount.
      critic: [S] what states are taken to be worth: as baseline, and where an episode is cut off.
    """

    def taken(logits):
        return jax.nn.log_softmax(logits)[STATES[:-1], ACTIONS]  # [H, n]

    scores = jax.jacfwd(taken)(logits).reshape(HORIZON, EPISODES, 4)
    curvatures = jax.jacfwd(jax.jacfwd(taken))(logits).reshape(HORIZON, EPISODES, 4, 4)
    ratios = jnp.ones((HORIZON, EPISODES)) if acted is None else jnp.exp(taken(logits) - taken(acted))
    worth = gamma ** np.arange(HORIZON + 1)[:, None] * np.asarray(critic)[STATES]
    known, rewards = worth[:-1], gamma ** np.arange(HORIZON)[:, None] * REWARDS
    rewards = jnp.stack([rewards[0], rewards[1] + worth[2]])

    def products(of):
        return jnp.einsum("tni,tnj->tnij", of, of)

    def total(weights, terms):
        return jnp.einsum("tn,tn...->n...", weights, terms)

    if surrogate in ("dice", "off_policy_dice", "lsf"):  # each reward meets the scores of the actions that led to it
        past, bent, kept = jnp.cumsum(scores, axis=0), jnp.cumsum(curvatures, axis=0), 1.0
        if surrogate == "lsf":  # Tang's: an episode is one sample, and each reward meets all of its scores
            past, bent = (jnp.broadcast_to(x[-1], x.shape) for x in (past, bent))
            kept = surrogate_decay
        led, chosen = rewards * jnp.cumprod(ratios, axis=0), known * ratios
        jacobian = total(led, bent + kept * products(past)) - total(chosen, curvatures + kept * products(scores))
        return total(led, past) - total(chosen, scores), jacobian
    later = known[1] + jnp.minimum(ratios[1], 1.0) * (rewards[1] - known[1])  # V-trace's
    gain = jnp.stack([rewards[0] + later, rewards[1]]) - known
    if surrogate == "off_policy":
        gain *= ratios
    bent = curvatures
    if surrogate in ("lvc", "off_policy"):
        bent += products(scores)
    elif surrogate == "loaded_dice":  # what the products of all scores so far have more than those before the action
        before = jnp.stack([jnp.zeros_like(scores[0]), surrogate_decay * scores[0]])
        bent += products(before + scores) - products(before)
    return total(gain, scores), total(gain, bent)


def agent_of(name, inner, **groups):
    """On a table, with the policy gradient alone in both losses. inner: further settings of the inner loss."""
    alone = {"value_weight": 0.0, "entropy_weight": 0.0, "reward_clip": 0.0, "reduction": "mean"}
    settings = AgentSettings(
        network=NetworkConfig("table"),
        inner=InnerLossConfig(**alone | {"gamma": GAMMA, "discount_states": True} | inner),
        outer=OuterLossConfig(gamma=GAMMA, value_weight=0.0, entropy_weight=0.0, kl_weight=0.0),
        **groups,
    )
    return make_agent(name, SPEC, settings)


def learner_with(inner, correction, horizon=HORIZON):
    agent = agent_of("maml", inner)
    start = {"policy": {"w": jnp.asarray(LOGITS)}, "value": {"w": jnp.zeros((2, 1))}}
    return problems.learner(
        agent._replace(init_meta=lambda key: {"params": start}),
        window=1,
        correction=correction,
        streams=STREAMS,
        optimizer=problems.optimizer("sgd", learning_rate=RATE * horizon, anneal=False, max_grad_norm=0.0),
        meta_optimizer=MetaOptimizerConfig(name="sgd", learning_rate=1.0),
        meta_gradient=MetaGradientConfig(objective="next", baseline="none", diagnostics=0),
        mesh=NoMesh(),
    )


def expected_through_the_learner(
    inner, correction, behaviours: Sequence[np.ndarray] = (LOGITS, LOGITS), horizon=HORIZON
):
    """Σ over the two episodes before the update, each of its own policy's, and one at θ¹ of their probability times the
    step of η that the learner takes. inner: settings of the inner loss."""
    learner = learner_with(inner, correction, horizon)
    states = episodes(horizon)[0]
    everything = trajectory(horizon, LOGITS)._replace(params_version=())

    def batch(chosen, policies, version):
        own = jax.tree.map(lambda x: jnp.asarray(x)[:, chosen], everything)
        acted = [jnp.asarray(p)[states[:-1]][:, c] for p, c in zip(policies, chosen, strict=True)]
        return own._replace(
            behaviour_logits=jnp.stack(acted, axis=1), params_version=jnp.full(STREAMS, version, jnp.int32)
        )

    def of(first, second, last):
        begun, _ = learner.step(learner.init(jax.random.key(0)), batch(jnp.array([first, second]), behaviours, 0))
        table = begun.inner.params["policy"]["w"]
        probability = jnp.exp(log_probability(jax.nn.log_softmax(table), horizon)[last])
        # The estimate is linear in the outer batch's streams: the same episode twice stands for two.
        ended, _ = learner.step(begun, batch(jnp.array([last, last]), (table, table), 1))
        moved = (a.meta.params["params"]["policy"]["w"] for a in (ended, begun))
        return probability * horizon * jnp.subtract(*moved).reshape(-1)

    count = states.shape[1]
    first, second, last = np.indices((count,) * 3).reshape(3, -1)
    found = jax.jit(jax.vmap(of))(first, second, last).reshape(count, count, count, 4).sum(axis=2)
    before = (jnp.exp(log_probability(jax.nn.log_softmax(behaviour), horizon)) for behaviour in behaviours)
    return jnp.einsum("m,n,mni->i", *before, found)


def sampled(settings, memory: Memory = NOTHING_REUSED) -> Estimate:
    """SAMPLES meta-gradients in the environment itself, from the uniform policy that tables begin with."""
    own = {
        "streams": STREAMS,
        "unroll": HORIZON + 1,
        "environment.mdp_states": 2,
        "environment.mdp_actions": 2,
        "environment.mdp_horizon": HORIZON,
    }
    estimator = Tabular(
        override(tabular("maml"), own | settings), critic_noise=None, endless=False, independent=False, memory=memory
    )
    keys = jax.random.split(jax.random.key(11), SAMPLES)
    found = estimator.many(jax.tree.map(lambda x: jnp.float32(x)[None], TASK), keys, Exact(), RATE)
    return jax.tree.map(lambda x: np.asarray(x[0], np.float64).reshape(SAMPLES, -1), found)
