"""Drawing one of many: in proportion, and never out of range."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from actors.draw import draw


def test_in_proportion_to_the_probabilities():
    shares = np.array([0.5, 2.0, 1.5, 1e-3, 0.25])
    drawn = draw(jax.random.key(0), jnp.broadcast_to(jnp.asarray(shares, jnp.float32), (400_000, 5)))
    counts = np.bincount(drawn, minlength=5)
    assert drawn.dtype == jnp.int32 and counts.shape == (5,)
    assert stats.chisquare(counts, shares / shares.sum() * counts.sum()).pvalue > 1e-3


def test_one_row_for_many_draws_is_that_row_for_each():
    shares = jax.nn.softmax(jax.random.normal(jax.random.key(2), (3, 1, 30)))
    many = draw(jax.random.key(3), shares, (3, 1_000))
    np.testing.assert_array_equal(many, draw(jax.random.key(3), jnp.broadcast_to(shares, (3, 1_000, 30))))
    assert len(np.unique(many)) == 30


def test_the_largest_random_number_stays_in_range():
    """Whatever the sum is rounded to: `jax.random.uniform` gives at most 1 - 2^-23."""
    rng = np.random.default_rng(0)
    total = (rng.random(1_000_000) * rng.choice([1e-6, 1.0, 1e6], 1_000_000)).astype(np.float32)
    assert np.all(np.float32(1 - 2**-23) * total < total)
    assert np.max(jax.random.uniform(jax.random.key(0), (50_000_000,))) <= np.float32(1 - 2**-23)


def test_what_is_all_but_certain_is_drawn():
    logits = jnp.array([[-100.0, 100.0, -100.0]] * 1000)
    assert np.all(draw(jax.random.key(1), jax.nn.softmax(logits)) == 1)
