"""What the estimators from perturbed copies are in expectation over all paths and all perturbations, in float64.

Two windows of one update each on the bandit: the learner's own updates, the estimators' own arithmetic, and for the
normal perturbations Gauss-Hermite quadrature, here and in the closed form. (The copies' acting is scripts/lives.py's:
see tests/scripts/test_evolution.py.)
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.tree import override
from learner.mesh import NoMesh
from scripts.parts import make_learner
from tests import tiny_bandit
from tests.smoothing import derivative, expected_estimates
from tests.tiny_bandit import BANDIT, ENVIRONMENT, ETA, RAW, every_path, followed, lived

pytestmark = pytest.mark.usefixtures("float64")

WINDOWS, SIGMA = 2, 0.4
QUADRATURE = 1e-6  # its error is 1.5e-7 here (5e-9 with nine points), of the estimates and of the closed forms together
PATHS = every_path(WINDOWS + 1, 1)


@pytest.fixture(scope="module")
def arms():
    return tiny_bandit.arms()


def score_of_life(arms, windows=range(WINDOWS)):
    """What windows are scored by, the closed form's: half the reward of the batch behind each, of the two it has."""

    def score(etas):
        batches = followed(PATHS, etas, arms)
        probability = jnp.exp(sum(batch.log_probability for batch in batches))
        return sum(probability @ batches[k + 1].reward for k in windows) / 2

    return score


def through_the_estimator(kind, arms):
    """[2] the expected sum of the life's two meta-gradients, to be ascended."""
    settings = {"differentiation": kind, "standard_deviation": SIGMA}
    config = override(BANDIT, {f"meta_gradient.{n}": v for n, v in settings.items()} | {"streams": 1, "window": 1})
    learner = make_learner(config, ENVIRONMENT.spec, mesh=NoMesh())
    born = {name: jnp.asarray(value) for name, value in ETA.items()}

    def returns(etas):
        """[batches] expected, of a copy with raw η `etas` ({name: [windows]}) in each window."""

        def before(state, k):
            own = {name: values[min(k, WINDOWS - 1)] for name, values in etas.items()}
            return state._replace(tape=(), meta=state.meta._replace(params=own))

        def of(path):
            rewards = jnp.asarray(arms)[path].mean(axis=1)
            return lived(learner, path, arms, before)[0] * rewards

        return jax.vmap(of)(PATHS.astype(np.int32)).sum(axis=0)

    return expected_estimates(config.meta_gradient, born, returns, WINDOWS)


def by_window(arms, sigma=SIGMA):
    """Each window's own derivative, what came before taken as it was."""
    return sum(derivative(score_of_life(arms, [k]), WINDOWS, sigma, RAW, moved=k) for k in range(WINDOWS))


def test_es_is_each_windows_smoothed_derivative(arms):
    np.testing.assert_allclose(through_the_estimator("es", arms), by_window(arms), rtol=QUADRATURE)


def test_pes_is_the_smoothed_derivative_of_the_whole_life(arms):
    whole = derivative(score_of_life(arms), WINDOWS, SIGMA, RAW)
    np.testing.assert_allclose(through_the_estimator("pes", arms), whole, rtol=QUADRATURE)
    assert np.linalg.norm(whole - by_window(arms)) > 0.02 * np.linalg.norm(whole)


def test_finite_differences_are_each_windows_own_coordinate_by_coordinate(arms):
    closed = np.zeros(2)
    for window, i in np.ndindex(WINDOWS, 2):
        step, score = np.zeros((WINDOWS, 2)), score_of_life(arms, [window])
        step[window, i] = SIGMA
        closed[i] += (score(RAW + step) - score(RAW - step)) / (2 * SIGMA)
    np.testing.assert_allclose(through_the_estimator("finite_differences", arms), closed, rtol=1e-12)
    assert np.linalg.norm(closed - by_window(arms)) > 1e-3 * np.linalg.norm(closed)
