"""What copies under normal perturbations of η estimate, exactly: derivatives of a smoothed score, by quadrature."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

Score = Callable[[jax.Array], jax.Array]  # [windows, d] η of each window -> what the life earns


def smoothed(score: Score, sigma: float, windows: int, eta: jax.Array) -> jax.Array:
    """E[score(η + ε_1, ..., η + ε_windows)] over normal ε of deviation σ, by Gauss-Hermite quadrature in all."""
    points, weights = np.polynomial.hermite_e.hermegauss(7)
    nodes = np.array(list(itertools.product(points, repeat=windows * len(eta)))).reshape(-1, windows, len(eta))
    mass = np.prod(np.array(list(itertools.product(weights / weights.sum(), repeat=windows * len(eta)))), axis=1)
    return mass @ jax.lax.map(lambda z: score(eta + sigma * z), jnp.asarray(nodes), batch_size=500)


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
