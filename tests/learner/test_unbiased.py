"""The meta-gradient's expectation, exactly: the real agent and learner along every path of a two-armed bandit's life.

λ = 1 without truncation is unbiased for the derivative of the expected reward; λ = 0 is not (No DICE, Eq. 8 to 10).
So it is where batches are acted by older parameters, if nothing clips their importance ratios, and but for these being
constants in the inner update.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.config import InnerLossConfig, MetaInitConfig, OuterLossConfig
from agents.types import FIRST, LAST, EnvironmentSpec, Trajectory
from learner.config import MetaGradientConfig, MetaOptimizerConfig
from learner.window import outer_weights
from tests.learner import problems

pytestmark = pytest.mark.usefixtures("float64")

SPEC = EnvironmentSpec("bandit", (1,), np.float64, num_actions=2, frame_stack=1, frames_per_step=1)
REWARDS = np.array([1.0, 0.2])
LOGITS = np.array([-1.0, 1.0])  # at the start of the life: the worse arm is preferred
LEARNING_RATE = 2.0
RAW = 0.4  # of the policy weight sigmoid(RAW), the one meta-parameter that matters here
PULLS = list(itertools.product(range(2), repeat=2))  # what two streams can do at once
# One of (0, 1) and (1, 0), twice, is enough where no sum knows which stream is which.
ONE_OF_EACH = [((0, 0), 1), ((0, 1), 2), ((1, 1), 1)]


def bandit_agent():
    agent = problems.agent(
        "stac",
        hidden=(),
        spec=SPEC,
        inner=InnerLossConfig(reward_clip=0.0, reduction="mean", rho_clip=1e9),
        outer=OuterLossConfig(policy_weight=1.0, value_weight=0.0, entropy_weight=0.0, kl_weight=0.0),
        start=MetaInitConfig(policy_weight=RAW),
    )

    def init(key):
        zeros = jax.tree.map(jnp.zeros_like, agent.init(key))
        return zeros | {"policy": zeros["policy"] | {"b": jnp.asarray(LOGITS)}}

    return agent._replace(init=init)


def pull(pulls, logits, version) -> Trajectory:
    """Both streams' one-step episodes, acted by a policy with these logits."""
    return Trajectory(
        observation=np.ones((2, 2, 1)),
        step_type=np.array([[FIRST] * 2, [LAST] * 2]),
        action=np.array([pulls], np.int32),
        behaviour_logits=np.tile(logits, (1, 2, 1)),
        reward=REWARDS[np.array([pulls])],
        discount=np.zeros((1, 2)),
        core_state=(),
        params_version=np.full(2, version, np.int32),
    )


def expected_meta_gradient(
    window, objective, score_returns="all", baseline="running_mean", score_reduction="sum", lag=0, **correction
) -> float:
    """Σ over paths of P(path) times the meta-gradient that `Learner.step` takes at the path's end."""
    learner = problems.learner(
        bandit_agent(),
        window,
        lags=(lag,),
        unroll=1,
        streams=2,
        optimizer=problems.optimizer("sgd", learning_rate=LEARNING_RATE, anneal=False, max_grad_norm=0.0),
        meta_optimizer=MetaOptimizerConfig(name="sgd", learning_rate=0.0),
        meta_gradient=MetaGradientConfig(
            objective=objective,
            score_returns=score_returns,
            score_reduction=score_reduction,
            baseline=baseline,
            diagnostics=0,
        ),
        **correction,
    )
    # Returns of one stream or of the others know.
    by_stream = score_returns == "others" or baseline == "other_streams"
    outcomes = [(pulls, 1) for pulls in PULLS] if by_stream else ONE_OF_EACH

    def from_here(state, probability, before=()):
        """`before`: the logits of all versions before this one."""
        head = state.inner.params["policy"]
        every = (*before, np.asarray(head["w"][0] + head["b"]))
        version = max(len(every) - 1 - lag, 0)
        logits = every[version]
        policy = np.exp(logits) / np.exp(logits).sum()
        total = 0.0
        for pulls, times in outcomes:
            now = probability * times * policy[list(pulls)].prod()
            after, metrics = learner.step(state, pull(pulls, logits, version))
            if after.meta_updates:
                assert not any(np.any(leaf) for leaf in jax.tree.leaves(after.inner.params["value"]))
                total += now * float(metrics["meta_grad/of_policy_weight"])
            else:
                total += from_here(after, now, every)
        return total

    return from_here(learner.init(jax.random.key(0)), 1.0)


def expected_reward(raw, window, objective, lag=0, constant=lambda ratio: ratio):
    """J(η) = Σ_paths P(path; η) Σ_k w_k π_k · r, the update rule written out: no code in common with the learner.

    `constant`: what becomes of the importance ratios in the update.
    """
    paths = np.array(list(itertools.product(PULLS, repeat=window + 1)))  # [paths, K+1, streams]
    logits, policies = jnp.tile(LOGITS, (len(paths), 1)), []
    log_probability, score = 0.0, 0.0
    for k, weight in enumerate(outer_weights(objective, window)):
        chosen = np.eye(2)[paths[:, k]]  # [paths, streams, arms]
        policies.append(logits - jnp.log(jnp.sum(jnp.exp(logits), axis=-1, keepdims=True)))
        log_policy, acted = policies[k], policies[max(k - lag, 0)]
        log_probability += jnp.sum(chosen * acted[:, None], axis=(1, 2))
        score += weight * jnp.exp(log_policy) @ REWARDS
        ratio = jnp.exp(jnp.sum(chosen * (log_policy - acted)[:, None], axis=-1))
        weighted = (constant(ratio) * REWARDS[paths[:, k]])[..., None]
        ascent = jnp.mean(weighted * (chosen - jnp.exp(log_policy)[:, None]), axis=1)
        # Twice: the logit is the sum of a bias and a weight times the observation 1, and both learn.
        logits += 2 * LEARNING_RATE / (1 + jnp.exp(-raw)) * ascent
    return jnp.sum(jnp.exp(log_probability) * score)


def exact_derivative(window, objective, lag=0) -> float:
    """dJ/dη, on whose two routes autodiff and finite differences agree."""
    derivative = float(jax.grad(expected_reward)(RAW, window, objective, lag))
    above, below = (expected_reward(RAW + e, window, objective, lag) for e in (1e-5, -1e-5))
    np.testing.assert_allclose((above - below) / 2e-5, derivative, rtol=1e-8)
    assert derivative > 0.005  # learning faster pays here
    return derivative


@pytest.mark.parametrize(
    "window, objective, score_returns", [(2, "next", "all"), (3, "all", "all"), (2, "all", "others")]
)
def test_full_correction_is_unbiased(window, objective, score_returns):
    """With its running baseline in place, and whether a stream's score meets its own later returns or not."""
    expected = expected_meta_gradient(window, objective, score_returns, correction=1.0)
    np.testing.assert_allclose(-expected, exact_derivative(window, objective), rtol=1e-9)


@pytest.mark.parametrize("objective, score_returns", [("next", "all"), ("all", "others")])
def test_full_correction_of_batches_that_are_a_version_old_is_unbiased(objective, score_returns):
    """D^j meets what θ^k would have earned on D^k, k > j; what θ^(k-1) did earn there knows nothing of D^(k-1)."""
    expected = -expected_meta_gradient(3, objective, score_returns, lag=1, correction=1.0)
    of_constants = jax.grad(expected_reward)(RAW, 3, objective, 1, jax.lax.stop_gradient)
    np.testing.assert_allclose(expected, of_constants, rtol=1e-9)
    exact, bare = exact_derivative(3, objective, lag=1), -expected_meta_gradient(3, objective, lag=1, correction=0.0)
    assert abs(expected / exact - 1) < 0.015 and 0.7 < bare / exact < 0.9


def test_without_a_baseline_it_is_unbiased_too():
    expected = expected_meta_gradient(2, "next", baseline="none", correction=1.0)
    np.testing.assert_allclose(-expected, exact_derivative(2, "next"), rtol=1e-9)


def test_the_other_streams_as_baseline_take_the_whole_correction_away():
    """What θ does to one stream it does to all: here, where streams share nothing else, what is left is λ = 0."""
    centred = expected_meta_gradient(2, "next", baseline="other_streams", correction=1.0)
    bare = expected_meta_gradient(2, "next", correction=0.0)
    np.testing.assert_allclose(centred, bare, rtol=1e-9)


def test_without_correction_or_with_half_of_it_or_with_emamls_mean_it_is_biased():
    exact = exact_derivative(2, "next")
    bare, half = (-expected_meta_gradient(2, "next", correction=weight) / exact for weight in (0.0, 0.5))
    assert 0.6 < bare < 0.8  # so much of the truth, and it is far from rounding
    # The correction is linear in λ, and the whole of it is right.
    np.testing.assert_allclose(half, (bare + 1.0) / 2, rtol=1e-9)
    # E-MAML's mean over two streams, in place of the sum, is just that: half.
    mean = -expected_meta_gradient(2, "next", score_reduction="mean", correction=1.0) / exact
    np.testing.assert_allclose(mean, half, rtol=1e-12)


def test_discounted_correction_is_biased_less_than_none():
    exact = exact_derivative(3, "all")
    bare, discounted = (
        -expected_meta_gradient(3, "all", correction=weight, discount=0.5) / exact for weight in (0.0, 1.0)
    )
    assert 0.6 < bare < discounted - 0.05 < 0.9
