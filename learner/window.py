"""The window: K inner updates and the tape that they leave for the meta-gradient."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from agents.types import Array, Params, Trajectory
from learner.config import MetaGradientConfig
from learner.inner_update import InnerState


class TapeEntry(NamedTuple):
    """One inner update as it happened: what it started from, and what it used."""

    state: InnerState  # θ^j and the optimiser's state before the update
    grads: Params  # gradient of the inner loss there
    logits: Array  # [T+1, B, A] of the policy there, on D^j
    trajectory: Trajectory  # D^j
    count: Array  # scalar int32, inner updates before this one: the version of θ^j
    applied: Array  # scalar bool, False where a non-finite gradient was skipped: Ψ was the identity
    stream_return: Array  # [B] G_j, the agent's `stream_return` of D^j: of θ^j where another version may have acted
    baseline: Array  # scalar, the running mean of batch returns as it was before D^j; 0 before the first
    kept: Any  # of the update's linearisation (see `meta_gradients.linearization`), or None


class Correction(NamedTuple):
    """The sampling correction's dials."""

    coefficient: float  # λ
    discount: float  # α
    others: bool  # weigh each stream's score by the mean return of the other streams only
    lags: tuple[int, ...]  # policy lags that batches can have, in inner updates
    centred: bool = False  # weigh each stream's score by its own return less the mean of the other streams'


def make_correction(
    coefficient: float, discount: float, config: MetaGradientConfig, lags: tuple[int, ...], actions: int
) -> Correction:
    """With E-MAML's mean over a batch's T·B `actions`, in place of their sum, λ is so much smaller (Stadie et al.)."""
    if config.score_reduction == "mean":
        coefficient /= actions
    centred = config.baseline == "other_streams"
    return Correction(coefficient, discount, config.score_returns == "others", lags, centred)


def outer_weights(objective: str, window: int) -> np.ndarray:
    """[K+1] weights w_k of batch k's outer loss: the last only, or all, averaged (No DICE, Eq. 6)."""
    if objective == "all":
        return np.full(window + 1, 1.0 / (window + 1))
    return np.eye(window + 1)[window]


def score_coefficients(returns: Array, baselines: Array, weights: np.ndarray, correction: Correction) -> Array:
    """C_j of the sampling correction (No DICE, Eq. 10 and 16, with baselines).

    C_{j,e} = λ Σ_{k>j} w_k α^(k-j) (R_{k,e} - b_j), where R_{k,e} is the mean of G_{k,e'} over all streams e', or over
    those other than e. The baseline b_j is fixed before D^j's actions are drawn, so that it adds no bias. The baseline
    "other_streams", the mean of G_{k,e'} over the others taken off G_{k,e}, is biased: what D^j did to θ^k moves both,
    and cancels. Where streams meet in θ alone its correction has the mean 0, and the estimate that of λ = 0.

    Args:
      returns: [K+1, B] stream returns G of the window's batches.
      baselines: [K+1] b_j.
      weights: [K+1] w_k.
      correction: λ, α and which streams.

    Returns:
      [K+1, B]; the last row is 0.
    """
    streams = returns.shape[1]
    mean = jnp.mean(returns, axis=1, keepdims=True)
    seen = mean  # [K+1, B or 1]
    if correction.others or correction.centred:
        seen = (streams * mean - returns) / (streams - 1)
    if correction.centred:
        seen = returns - seen
    steps = np.arange(len(weights))
    gap = steps[None, :] - steps[:, None]  # k - j
    decay = np.where(gap > 0, float(correction.discount) ** np.maximum(gap, 0), 0.0) * weights
    above = jnp.asarray(decay, returns.dtype)[..., None] * (seen[None] - baselines[:, None, None])  # [j, k, e]
    # A return without weight counts for nothing even where it is not a number: that of a skipped batch, for example.
    coefficients = correction.coefficient * jnp.sum(jnp.where(decay[..., None] > 0, above, 0.0), axis=1)
    return jnp.broadcast_to(coefficients, returns.shape)


class RunningMean(NamedTuple):
    """An exponentially decayed mean without the pull of its start: the first return alone, then the first two, ..."""

    total: Array  # scalar Σ_i decay^(n-1-i) x_i
    weight: Array  # scalar Σ_i decay^(n-1-i), 0 before the first

    @property
    def value(self) -> Array:
        """The mean; 0 before there is one."""
        return jnp.where(self.weight > 0, self.total / jnp.where(self.weight > 0, self.weight, 1.0), 0.0)

    def update(self, x: Array, decay: float) -> "RunningMean":
        """With `x`; a value that is not finite leaves it as it is."""
        new = RunningMean(decay * self.total + jnp.where(jnp.isfinite(x), x, 0.0), decay * self.weight + 1.0)
        return RunningMean(*(jnp.where(jnp.isfinite(x), b, a) for a, b in zip(self, new, strict=True)))
