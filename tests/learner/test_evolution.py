"""The arithmetic of the estimators from perturbed copies, on scores that are known functions of η."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.config import OuterLossConfig
from learner.config import MetaGradientConfig
from learner.meta_gradients.base import Estimate
from learner.meta_gradients.evolution import Evolution
from tests.learner import problems

pytestmark = pytest.mark.usefixtures("float64")

META = {"a": np.array([0.5, -1.0]), "b": np.array(2.0)}


def score(meta):
    return jnp.sum(meta["a"] ** 2) * 0.5 - 3.0 * meta["b"] + meta["a"][0] * meta["b"]


def test_finite_differences_are_exact_for_a_quadratic_score():
    central = Evolution(MetaGradientConfig("all", "finite_differences", standard_deviation=0.3), 2)
    perturbations = central.perturb(jax.random.key(0), META)
    scores = jax.vmap(jax.vmap(score))(central.copies(META, perturbations))
    estimate = central.estimate(META, perturbations, scores)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, -b, rtol=1e-9), estimate.gradient, jax.grad(score)(META))
    assert np.isnan(estimate.diagnostics["snr"])


def test_es_projects_the_gradient_on_its_directions():
    """Antithetic pairs cancel what is even in ε: on a quadratic score the estimate is (1/n) Σ z_i z_iᵀ ∇."""
    es = Evolution(MetaGradientConfig("all", "es", standard_deviation=0.3, pairs=50), 2)
    perturbations = es.perturb(jax.random.key(0), META)
    assert perturbations.shape == (50, 3) and 0.25 < perturbations.std() < 0.35
    estimate = es.estimate(META, perturbations, jax.vmap(jax.vmap(score))(es.copies(META, perturbations)))
    gradient, z = jax.grad(score)(META), np.asarray(perturbations) / 0.3
    flat = np.append(gradient["a"], gradient["b"])
    found = np.append(estimate.gradient["a"], estimate.gradient["b"])
    np.testing.assert_allclose(found, -(z.T @ z @ flat) / 50, rtol=1e-10)
    shares = z * (z @ flat)[:, None]
    noise = np.sqrt(np.sum(shares.var(axis=0, ddof=1)) / 50)
    np.testing.assert_allclose(estimate.diagnostics["snr"], np.linalg.norm(found) / noise, rtol=1e-10)


def test_pes_weighs_scores_by_all_perturbations_so_far():
    pes = Evolution(MetaGradientConfig("all", "pes", standard_deviation=0.5, pairs=2), 1)
    meta, gathered = {"b": jnp.asarray(0.0)}, jnp.asarray([[1.0], [3.0]])
    estimate = pes.estimate(meta, gathered, jnp.asarray([[2.0, 1.0], [0.0, 4.0]]))
    np.testing.assert_allclose(estimate.gradient["b"], -(1.0 * 1.0 + 3.0 * -4.0) / 2 / (2 * 0.25))


@pytest.mark.parametrize("objective, expected", [("next", 5.0), ("all", (2.0 + 5.0) / 3)])
def test_each_batch_counts_once(objective, expected):
    es = Evolution(MetaGradientConfig(objective, "es"), 2)
    np.testing.assert_allclose(es.score(jnp.asarray([2.0, 5.0])), expected)


def test_the_learner_steps_along_an_estimate_from_outside_and_skips_one_that_is_not_finite():
    agent = problems.agent(outer=OuterLossConfig(kl_weight=0.0))
    learner = problems.learner(agent, 1, meta_gradient=MetaGradientConfig("next", "es"))
    state, _ = learner.step(learner.init(jax.random.key(0)), problems.trajectory(agent, 0, 0))
    born = state.meta.params
    for value, skipped in ((jnp.nan, 1), (1.0, 0)):
        estimate = Estimate(jax.tree.map(lambda x, v=value: jnp.full_like(x, v), born), {})
        after, metrics = learner.step(state, problems.trajectory(agent, 1, 1), estimate)
        assert int(after.skipped.meta) == skipped and bool(metrics["skipped/meta"]) == bool(skipped)
        assert after.meta_updates == 1 and len(after.tape) == 1
        jax.tree.map(lambda a, b, s=skipped: np.testing.assert_equal(bool(a < b), not s), after.meta.params, born)
