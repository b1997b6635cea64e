"""Meta-gradients from what perturbed copies of the agent earned: nothing is differentiated.

Copies come in pairs, at η + ε_i and η - ε_i, and each acts the whole window. With F⁺ and F⁻ their scores, n pairs and
ε_i = σ z_i:

    es (evolution strategies)          ĝ = (1/n) Σ_i ε_i (F_i⁺ - F_i⁻) / (2σ²),  z_i standard normal
    pes (Vicol et al. 2021, Eq. 7)     ĝ = (1/n) Σ_i ξ_i (F_i⁺ - F_i⁻) / (2σ²),  ξ_i the sum of the pair's ε_i so far
    finite_differences                 ĝ = Σ_i ε_i (F_i⁺ - F_i⁻) / (2σ²),        z_i the i-th unit vector

`es` and `finite_differences` send new copies out at every window's start, from the life's own state: what η did before
is constant to them. The copies of `pes` live on, each pair under new perturbations in each window, and ξ remembers the
old ones: summed over a life's windows it is unbiased for the whole life's score, with normally smoothed η. Copies meet
the random numbers of their life (common random numbers), so that η alone makes the difference.

Here is the estimators' arithmetic; scripts/lives.py has the copies act.
"""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from agents.types import Array, MetaParams
from learner.config import MetaGradientConfig
from learner.meta_gradients import base
from learner.meta_gradients.base import Estimate
from learner.window import outer_weights


class Evolution:
    """Perturbations of η, the score of a copy, and the meta-gradient from all copies' scores."""

    def __init__(self, config: MetaGradientConfig, window: int):
        """`window`: K."""
        self.persistent = config.differentiation == "pes"
        self._central = config.differentiation == "finite_differences"
        self._deviation = config.standard_deviation
        self._pairs = config.pairs
        self._weights = outer_weights(config.objective, window)[1:]

    def perturb(self, key: Array, meta_params: MetaParams) -> Array:
        """[pairs, d] ε, of η's d scalars."""
        flat, _ = ravel_pytree(meta_params)
        if self._central:
            return self._deviation * jnp.eye(flat.size, dtype=flat.dtype)
        return self._deviation * jax.random.normal(key, (self._pairs, flat.size), flat.dtype)

    def copies(self, meta_params: MetaParams, perturbations: Array) -> MetaParams:
        """[pairs, 2, ...] raw η + ε and η - ε."""
        flat, unravel = ravel_pytree(meta_params)
        both = flat + jnp.stack([perturbations, -perturbations], axis=1)
        return jax.vmap(jax.vmap(unravel))(both)

    def score(self, returns: Array) -> Array:
        """Σ_{k ≥ 1} w_k R̄_k of a copy, from the mean returns [K] of the batches that θ^1 ... θ^K acted.

        θ^0 knows nothing of the window's η; counting its batch in the window before counts each batch once.
        """
        return jnp.sum(jnp.asarray(self._weights, returns.dtype) * returns)

    def estimate(self, meta_params: MetaParams, gathered: Array, scores: Array) -> Estimate:
        """The meta-gradient, of minus the score.

        Args:
          meta_params: raw η.
          gathered: [pairs, d] ε of this window, or for `pes` ξ, their sum over the copies' lives.
          scores: [pairs, 2] F⁺ and F⁻.
        """
        _, unravel = ravel_pytree(meta_params)
        shares = -gathered * (scores[:, :1] - scores[:, 1:]) / (2 * self._deviation**2)
        # Central differences by coordinate are not samples of one thing: together they are one share.
        shares = shares.sum(axis=0, keepdims=True) if self._central else shares / self._pairs
        gradient = shares.sum(axis=0)
        return Estimate(unravel(gradient), base.diagnostics(gradient, None, None, shares))
