"""Reverse differentiation: one adjoint sweep over the live tape (mixed mode).

The inner updates that really happened are the forward pass. Each step of the sweep rebuilds one update's
linearisation from its tape entry and pulls the adjoint of (θ^(j+1), opt^(j+1)) back to (θ^j, opt^j), so activation
memory does not grow with K. Hessian-vector products are forward-over-reverse (Kemaev et al. 2025): one `jvp` of the
inner loss's gradient, along the adjoint that came through the optimiser, yields both (∂²L/∂θ²)ᵀv and (∂²L/∂η∂θ)ᵀv,
because that gradient is itself the gradient of a function of (η, θ). The window's first update needs no Hessian, except
where η is θ^0 itself (MAML): then the adjoint of θ^0 is the meta-gradient.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from agents.types import Array, MetaParams, Params, Trajectory
from learner.config import BootstrapConfig
from learner.inner_update import InnerState, InnerUpdate, select
from learner.meta_gradients import base
from learner.meta_gradients.base import Estimate
from learner.meta_gradients.bootstrap import matching_gradient
from learner.window import Correction, TapeEntry, outer_weights, score_coefficients


class ReverseMetaGradient:
    """Meta-gradient of the window's outer loss plus the sampling correction, by the adjoint sweep.

    `adjoint` trees carry a leading axis: one entry, or two where direct and correction part are propagated apart.
    """

    def __init__(
        self,
        update: InnerUpdate,
        objective: str,
        window: int,
        correction: Correction,
        diagnostics: bool,
        bootstrap: BootstrapConfig | None = None,
    ):
        """`window`: K. `bootstrap`: with the objective of that name, of which the tape is K + L - 1 updates long."""
        self._update = update
        self._objective = objective
        self._window = window
        self._initial = update.agent.starts_from_meta
        self._correction = correction
        self._apart = diagnostics and correction.coefficient > 0
        self._weights = outer_weights(objective, window)
        self._coefficients = jax.jit(lambda g, b: score_coefficients(g, b, self._weights, correction))
        self._anchor_logits = jax.jit(lambda params, t: base.anchor_logits(update.agent, params, t))
        self._outer_gradient = jax.jit(self._outer_gradient)
        self._matching_gradient = jax.jit(lambda *args: matching_gradient(update, bootstrap, *args))
        self._score_gradient = jax.jit(self._score_gradient)
        self._pull_back = jax.jit(self._pull_back, static_argnames="first")
        self._finish = jax.jit(self._finish)
        self._finish_initial = jax.jit(self._finish_initial)

    def __call__(
        self, meta_params: MetaParams, tape: Sequence[TapeEntry], final: InnerState, last: TapeEntry
    ) -> tuple[Estimate, dict[str, Array]]:
        """The meta-gradient of one window.

        Args:
          meta_params: raw η, as it was during the window.
          tape: the window's updates, in order.
          final: θ and its optimiser state after them.
          last: holds the newest batch (the next window's first), its stream returns and baseline, and the number of
            inner updates before it; nothing else is read.

        Returns:
          The estimate, and the outer loss's parts at `final` (with those of the matching loss, where there is one).
        """
        window = self._window
        entries = [*tape, last]
        scored = tape[-1].trajectory if self._objective == "same" else last.trajectory
        gradient, logs = self._outer_gradient(final.params, scored, self._anchor(tape, scored), self._weights[window])
        if self._objective == "bootstrap":
            params = entries[window].state.params if window < len(tape) else final.params
            gradient, parts = self._matching_gradient(params, final, gradient, scored, last.count)
            logs |= parts
        adjoint = self._start(gradient, final)
        if self._correction.coefficient:
            returns = jnp.stack([entry.stream_return for entry in entries])
            baselines = jnp.stack([entry.baseline for entry in entries])
            coefficients = self._coefficients(returns, baselines)
        shares = []
        for j in reversed(range(window)):
            adjoint, share = self._pull_back(meta_params, tape[j], adjoint, first=j == 0)
            shares.append(share)
            if j == 0 and not self._initial:
                break
            params = tape[j].state.params
            if self._weights[j]:
                anchor = self._anchor(tape, tape[j].trajectory)
                gradient, _ = self._outer_gradient(params, tape[j].trajectory, anchor, self._weights[j])
                adjoint = self._add(adjoint, gradient, 0)
            if self._correction.coefficient:
                for acted in (j + lag for lag in self._correction.lags if j + lag < window):
                    gradient = self._score_gradient(params, tape[acted].trajectory, -coefficients[acted], tape[j].count)
                    adjoint = self._add(adjoint, gradient, -1)
        return self._finish_initial(adjoint) if self._initial else self._finish(meta_params, shares), logs

    def _start(self, gradient: Params, final: InnerState) -> InnerState:
        zeros = jax.tree.map(jnp.zeros_like, final)
        parts = [InnerState(gradient, zeros.opt_state)] + ([zeros] if self._apart else [])
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)

    def _add(self, adjoint: InnerState, gradient: Params, part: int) -> InnerState:
        return adjoint._replace(params=jax.tree.map(lambda a, g: a.at[part].add(g), adjoint.params, gradient))

    def _anchor(self, tape: Sequence[TapeEntry], trajectory: Trajectory) -> Array | None:
        """The policy at the window's start on `trajectory`; for the window's first batch the inner update had it."""
        if trajectory is tape[0].trajectory:
            return tape[0].logits
        return self._anchor_logits(tape[0].state.params, trajectory)

    def _outer_gradient(self, params, trajectory, anchor, weight) -> tuple[Params, dict[str, Array]]:
        def loss(params):
            per_stream, logs = base.outer_loss(self._update.agent, params, trajectory, anchor)
            return weight * jnp.mean(per_stream), logs

        return jax.grad(loss, has_aux=True)(params)

    def _score_gradient(self, params, trajectory, coefficients, version) -> Params:
        return jax.grad(lambda p: jnp.vdot(coefficients, base.score(self._update.agent, p, trajectory, version)))(
            params
        )

    def _pull_back(self, meta_params, entry: TapeEntry, adjoint: InnerState, *, first: bool):
        """Adjoint of the update's output -> adjoint of its input, and the shares of ∂/∂η ([parts, B, …] by stream)."""
        if self._initial:  # η enters no loss: it is where the window starts
            meta, first, wanted = meta_params, False, 1
        else:
            meta = base.per_stream_meta(meta_params, entry.trajectory.reward.shape[1])
            wanted = 0 if first else (0, 1)

        def gradient(params: Params):
            return jax.grad(lambda m, p: self._update.loss(m, p, entry.trajectory)[0], argnums=wanted)(meta, params)

        def pull(adjoint: InnerState):
            _, through_optimizer = jax.vjp(lambda g, s: self._update.apply(g, s, entry.count), entry.grads, entry.state)
            along, through = through_optimizer(adjoint)
            _, tangent = jax.jvp(gradient, (entry.state.params,), (along,))
            share, hessian = ({}, tangent) if self._initial else (tangent, None) if first else tangent
            share = jax.tree.map(lambda s: jnp.where(entry.applied, s, 0.0), share)
            if first:
                return adjoint, share  # nothing pulls further back
            pulled = through._replace(params=jax.tree.map(jnp.add, through.params, hessian))
            return select(entry.applied, pulled, adjoint), share

        return jax.vmap(pull)(adjoint)

    def _finish_initial(self, adjoint: InnerState) -> Estimate:
        """The meta-gradient where η is θ⁰: the adjoint of θ⁰ itself."""
        parts = [{"params": jax.tree.map(lambda x, i=i: x[i], adjoint.params)} for i in range(1 + self._apart)]
        gradient = jax.tree.map(lambda *leaves: sum(leaves), *parts)
        direct, correction = self._apart_or_not(gradient, parts)
        return Estimate(gradient, base.diagnostics(gradient, direct, correction, jnp.full((1, 1), jnp.nan)))

    def _apart_or_not(self, gradient: MetaParams, parts: Sequence[MetaParams]) -> tuple[Any, Any]:
        """Direct and correction part, (None, None) where they were not propagated apart."""
        if self._apart:
            return tuple(parts)
        if not self._correction.coefficient:
            return gradient, jax.tree.map(jnp.zeros_like, gradient)
        return None, None

    def _finish(self, meta_params: MetaParams, shares: Sequence[MetaParams]) -> Estimate:
        total = jax.tree.map(lambda *leaves: sum(leaves), *shares)  # [parts, B] for scalars

        def reduced(part: MetaParams) -> MetaParams:
            return jax.tree.map(lambda m, leaf: leaf.sum() if m.ndim == 0 else leaf, meta_params, part)

        by_part = [reduced(jax.tree.map(lambda leaf, i=i: leaf[i], total)) for i in range(1 + self._apart)]
        gradient = jax.tree.map(lambda *leaves: sum(leaves), *by_part)
        direct, correction = self._apart_or_not(gradient, by_part)
        pairs = zip(*map(jax.tree.leaves, (meta_params, total)), strict=True)
        by_stream = [t.sum(axis=0) for m, t in pairs if m.ndim == 0] or [jnp.full(1, jnp.nan)]
        return Estimate(gradient, base.diagnostics(gradient, direct, correction, jnp.stack(by_stream, axis=-1)))


def last_entry(trajectory: Trajectory, count: Array, stream_return: Array, baseline: Array) -> TapeEntry:
    """A tape entry for a batch that no update has used yet: what the sweep reads of the window's last batch."""
    return TapeEntry(None, None, None, trajectory, count, None, stream_return, baseline)
