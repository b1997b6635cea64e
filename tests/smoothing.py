"""What copies under normal perturbations of η estimate, exactly: derivatives of a smoothed score, by quadrature."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from agents.types import MetaParams
from learner.config import MetaGradientConfig
from learner.meta_gradients.evolution import Evolution

Score = Callable[[jax.Array], jax.Array]  # [windows, d] η of each window -> what the life earns
Returns = Callable[[MetaParams], jax.Array]  # η of each window, leaves [windows] -> [windows + 1] what batches earn
POINTS = 7  # of the quadrature, in each dimension


def gauss_hermite(points: int, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """[points^d, d] and [points^d] probabilities that stand for d independent standard normals."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    every = itertools.product(zip(nodes, weights / weights.sum(), strict=True), repeat=dimensions)
    x, mass = np.moveaxis(np.array(list(every)), -1, 0)
    return x, mass.prod(axis=1)


def smoothed(score: Score, sigma: float, windows: int, eta: jax.Array, points: int = POINTS) -> jax.Array:
    """E[score(η + ε_1, ..., η + ε_windows)] over normal ε of deviation σ, by Gauss-Hermite quadrature in all."""
    nodes, mass = gauss_hermite(points, windows * len(eta))
    nodes = jnp.asarray(nodes.reshape(-1, windows, len(eta)))
    return mass @ jax.lax.map(lambda z: score(eta + sigma * z), nodes, batch_size=500)


def derivative(
    score: Score, windows: int, sigma: float, eta: np.ndarray, moved: int | None = None, points: int = POINTS
) -> np.ndarray:
    """[d] of the smoothed score, by the η of all windows, or by that of window `moved` with the others still."""
    share = np.ones((windows, 1)) if moved is None else (np.arange(windows) == moved)[:, None] * 1.0

    def of(step):
        moving = eta * (1 - share) + step * share
        return smoothed(lambda etas: score(etas * share + moving), sigma, windows, eta, points)

    with jax.enable_x64(True):
        return np.asarray(jax.grad(of)(jnp.zeros(len(eta))))


def expected_estimates(
    config: MetaGradientConfig, born: MetaParams, returns: Returns, windows: int, points: int = POINTS
) -> np.ndarray:
    """[d] the expected sum of a life's estimates, to be ascended, in windows of one update, each scored by the batch
    behind it: the estimator's own arithmetic over all its perturbations, where copies earn what `returns` says."""
    evolution = Evolution(config, 1)

    def estimate(window, perturbations, gathered):
        """perturbations: [pairs, windows, d] that copies have lived under; gathered: as of `Evolution.estimate`."""
        by_window = [evolution.copies(born, perturbations[:, w]) for w in range(windows)]
        etas = jax.tree.map(lambda *x: jnp.stack(x, axis=-1), *by_window)
        scores = jax.vmap(jax.vmap(lambda etas: evolution.score(returns(etas)[window + 1 :][:1])))(etas)
        gradient = evolution.estimate(born, gathered, scores).gradient
        return -jnp.stack(jax.tree.leaves(gradient))

    def of_perturbations(drawn):
        """drawn: [windows, pairs, d]."""
        total = 0.0
        for window in range(windows):
            alone = (np.arange(windows) == window)[:, None, None] * drawn
            past = (np.arange(windows) <= window)[:, None, None] * drawn
            own = past if evolution.persistent else alone
            total += estimate(window, own.swapaxes(0, 1), own.sum(axis=0))
        return total

    if config.differentiation == "finite_differences":
        return jax.jit(of_perturbations)(jnp.stack([evolution.perturb(None, born)] * windows))
    size = len(jax.tree.leaves(born))
    nodes, mass = gauss_hermite(points, windows * size)
    drawn = jnp.asarray(config.standard_deviation * nodes.reshape(-1, windows, 1, size))
    return mass @ jax.jit(lambda x: jax.lax.map(of_perturbations, x, batch_size=500))(drawn)


def z_scores(values: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Of the mean of [n, d] independent values."""
    return np.abs(values.mean(axis=0) - exact) / (values.std(axis=0, ddof=1) / np.sqrt(len(values)))
