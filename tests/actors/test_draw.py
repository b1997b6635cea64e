"""Drawing one of many: in proportion, never what has no share, and never out of range."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from actors.draw import draw


def test_in_proportion_to_the_probabilities():
    shares = np.array([0.0, 0.5, 0.0, 2.0, 1.5, 1e-3, 0.0])
    drawn = draw(jax.random.key(0), jnp.broadcast_to(jnp.asarray(shares, jnp.float32), (400_000, 7)))
    counts = np.bincount(drawn, minlength=7)
    assert drawn.dtype == jnp.int32 and counts.shape == (7,)
    assert np.all(counts[shares == 0] == 0)
    seen = shares > 0
    assert stats.chisquare(counts[seen], shares[seen] / shares.sum() * counts.sum()).pvalue > 1e-3


def test_the_largest_and_the_smallest_random_number_stay_in_range():
    """Whatever the sum is rounded to: the bounds of `jax.random.uniform` are 0 and 1 - 2^-23."""
    rng = np.random.default_rng(0)
    cumulative = np.cumsum(rng.random((100_000, 5), np.float32) * rng.choice([1e-6, 1.0, 1e6], (100_000, 1)), axis=1)
    cumulative = cumulative.astype(np.float32)
    assert np.all(np.float32(1 - 2**-23) * cumulative[:, -1] < cumulative[:, -1])
    first = draw(jax.random.key(1), jnp.array([[0.0, 0.0, 3.0]] * 1000))
    assert np.all(first == 2)
