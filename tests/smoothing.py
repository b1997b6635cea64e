"""What copies under normal perturbations of η estimate, exactly: derivatives of a smoothed score, by quadrature."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

Score = Callable[[jax.Array], jax.Array]  # [windows, d] η of each window -> what the life earns
POINTS = 7  # of the quadrature, in each dimension


def gauss_hermite(points: int, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """[points^d, d] and [points^d] probabilities that stand for d independent standard normals."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    every = itertools.product(zip(nodes, weights / weights.sum(), strict=True), repeat=dimensions)
    x, mass = np.moveaxis(np.array(list(every)), -1, 0)
    return x, mass.prod(axis=1)


def smoothed(score: Score, sigma: float, windows: int, eta: jax.Array) -> jax.Array:
    """E[score(η + ε_1, ..., η + ε_windows)] over normal ε of deviation σ, by Gauss-Hermite quadrature in all."""
    nodes, mass = gauss_hermite(POINTS, windows * len(eta))
    nodes = jnp.asarray(nodes.reshape(-1, windows, len(eta)))
    return mass @ jax.lax.map(lambda z: score(eta + sigma * z), nodes, batch_size=500)


def derivative(score: Score, windows: int, sigma: float, eta: np.ndarray, moved: int | None = None) -> np.ndarray:
    """[d] of the smoothed score, by the η of all windows, or by that of window `moved` with the others still."""
    share = np.ones((windows, 1)) if moved is None else (np.arange(windows) == moved)[:, None] * 1.0

    def of(step):
        return smoothed(lambda etas: score(etas * share + eta * (1 - share) + step * share), sigma, windows, eta)

    with jax.enable_x64(True):
        return np.asarray(jax.grad(of)(jnp.zeros(len(eta))))


def z_scores(values: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Of the mean of [n, d] independent values."""
    return np.abs(values.mean(axis=0) - exact) / (values.std(axis=0, ddof=1) / np.sqrt(len(values)))
