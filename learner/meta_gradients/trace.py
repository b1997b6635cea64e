"""Forward differentiation: carry z = d(θ, opt)/dη along the lifetime.

z' = μ (∂Ψ/∂(θ, opt)) z + ∂Ψ/∂η. With μ = 1 it is exact and nothing is truncated; μ = 0 keeps the last update only
(MGRL's one-step trace). One Jacobian-vector product for every scalar meta-parameter: for small η only.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from agents.types import Array, MetaParams, Params, Trajectory
from learner.inner_update import InnerState, InnerUpdate, nonfinite_leaves, select
from learner.meta_gradients import base
from learner.meta_gradients.base import Estimate
from learner.window import Correction, TapeEntry


class TraceState(NamedTuple):
    """Carried along the lifetime. d is the number of scalar meta-parameters."""

    sensitivity: InnerState  # [d, ...] z
    scores: Array  # [d] q: discounted sum of zᵀ∇S_j over past batches
    scores_baseline: Array  # [d] the same sum, each term times the baseline b_j that was fixed before its batch
    direct: Array  # [d, B] the direct part gathered in this window so far, by stream where streams are told apart
    correction: Array  # [d] the correction part gathered in this window so far


class TraceMetaGradient:
    """The same meta-gradient as `ReverseMetaGradient`, never truncated, decayed by μ."""

    def __init__(self, update: InnerUpdate, correction: Correction, decay: float):
        self._update = update
        self._correction = correction
        self._decay = decay
        self.step = jax.jit(self._step)
        self._gather = jax.jit(self._gather, static_argnames="by_stream")
        self._anchor_logits = jax.jit(lambda params, t: base.anchor_logits(update.agent, params, t))
        self.estimate = jax.jit(self._estimate, static_argnames="by_stream")

    def init(self, meta_params: MetaParams, state: InnerState, streams: int) -> TraceState:
        """Zero sensitivity: nothing has depended on η yet."""
        flat, _ = ravel_pytree(meta_params)
        size, dtype = flat.size, flat.dtype
        zeros = jnp.zeros(size, dtype)
        sensitivity = jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype), state)
        return TraceState(sensitivity, zeros, zeros, jnp.zeros((size, streams), dtype), zeros)

    def _step(
        self,
        trace: TraceState,
        meta_params: MetaParams,
        state: InnerState,
        trajectory: Trajectory,
        count: Array,
        baseline: Array,
    ) -> tuple[InnerState, Params, Any, TraceState]:
        """One inner update with its trace: Ψ's own results, then the new trace."""
        flat, unravel = ravel_pytree(meta_params)
        directions = jax.vmap(unravel)(jnp.eye(flat.size, dtype=flat.dtype))

        def psi(meta_params, state):
            new, grads, logs = self._update(meta_params, state, trajectory, count)
            return new, (grads, logs)

        # All directions go through the same linearisation.
        new, along, (grads, logs) = jax.linearize(psi, meta_params, state, has_aux=True)
        old = jax.tree.map(lambda z: self._decay * z, trace.sensitivity)
        tangent = base.in_turn(lambda direction: along(*direction), (directions, old))
        if self._correction.coefficient:
            agent = self._update.agent
            gradient = jax.grad(
                lambda p: jnp.sum(base.score(agent, agent.unroll(p, trajectory), trajectory, count)),
            )(state.params)
            scores = jax.vmap(lambda z: _tree_dot(z, gradient))(trace.sensitivity.params)
            scores = jnp.where(jnp.isfinite(scores), scores, 0.0)  # one bad batch must not stay in the sum for ever
            alpha = self._correction.discount
            trace = trace._replace(
                scores=alpha * (trace.scores + scores),
                scores_baseline=alpha * (trace.scores_baseline + baseline * scores),
            )
        sensitivity = select(~jnp.any(nonfinite_leaves(grads)), tangent, trace.sensitivity)
        trace = trace._replace(sensitivity=sensitivity)
        # A sensitivity that has overflowed would stay so for the rest of the life: the trace starts again instead.
        return new, grads, logs, select(~jnp.any(nonfinite_leaves(trace)), trace, jax.tree.map(jnp.zeros_like, trace))

    def gather(
        self,
        trace: TraceState,
        tape: Sequence[TapeEntry],
        params: Params,
        trajectory: Trajectory,
        stream_return: Array,
        weight: float,
        correction_scale: Array | float,
        by_stream: bool,
    ) -> tuple[TraceState, dict[str, Array]]:
        """Adds weight · (zᵀ∂outer/∂θ - λ (R̄ q - q_b)) at one batch, before the update that uses the batch.

        `tape`: the open window's. `correction_scale`: times λ. `by_stream`: each stream's part apart, which takes a
        tangent of the outer loss along every z; one gradient and its products with them do without.
        """
        anchor = base.window_anchor(self._anchor_logits, tape, trajectory)
        given = (trace, params, trajectory, anchor, stream_return, weight, correction_scale)
        return self._gather(*given, by_stream=by_stream)

    def _gather(
        self, trace, params, trajectory, anchor, stream_return, weight, correction_scale, *, by_stream: bool
    ) -> tuple[TraceState, dict[str, Array]]:
        def loss(params):
            return base.outer_loss(self._update.agent, params, trajectory, anchor)

        def mean_loss(params):
            by_stream, logs = loss(params)
            return by_stream.mean(), logs

        if by_stream:
            _, along, logs = jax.linearize(loss, params, has_aux=True)
            direct = base.in_turn(along, trace.sensitivity.params) / stream_return.size
        else:
            gradient, logs = jax.grad(mean_loss, has_aux=True)(params)
            whole = jax.vmap(lambda z: _tree_dot(z, gradient))(trace.sensitivity.params)
            direct = jnp.broadcast_to(whole[:, None] / stream_return.size, trace.direct.shape)
        coefficient = correction_scale * self._correction.coefficient
        correction = -coefficient * (stream_return.mean() * trace.scores - trace.scores_baseline)
        trace = trace._replace(direct=trace.direct + weight * direct, correction=trace.correction + weight * correction)
        return trace, logs

    def _estimate(self, trace: TraceState, meta_params: MetaParams, by_stream: bool) -> tuple[Estimate, TraceState]:
        """The window's meta-gradient, and the trace with an empty sum for the next window."""
        _, unravel = ravel_pytree(meta_params)
        direct = trace.direct.sum(axis=1)
        streams = trace.direct.shape[1]
        shares = (trace.direct + trace.correction[:, None] / streams).T if by_stream else jnp.full((1, 1), jnp.nan)
        gradient = direct + trace.correction
        told = base.diagnostics(gradient, direct, trace.correction, shares)
        estimate = Estimate(unravel(gradient), told, unravel(direct))
        empty = trace._replace(direct=jnp.zeros_like(trace.direct), correction=jnp.zeros_like(trace.correction))
        return estimate, empty


def _tree_dot(a: Params, b: Params) -> Array:
    return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
