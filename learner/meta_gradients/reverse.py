"""Reverse differentiation: one adjoint sweep over the live tape (mixed mode).

The inner updates that really happened are the forward pass. Each step of the sweep takes one update's linearisation
(kept on the tape, or rebuilt from it: then activation memory does not grow with K) and pulls the adjoint of (θ^(j+1),
opt^(j+1)) back to (θ^j, opt^j). Hessian-vector products are forward-over-reverse (Kemaev et al. 2025): one tangent of
the inner loss's gradient, along the adjoint that came through the optimiser, yields both (∂²L/∂θ²)ᵀv and (∂²L/∂η∂θ)ᵀv,
because that gradient is itself the gradient of a function of (η, θ). The window's first update needs no Hessian, except
where η is θ^0 itself (MAML): then the adjoint of θ^0 is the meta-gradient.
"""

import enum
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from agents.surrogates import score_function
from agents.types import Array, MetaParams, Params, Trajectory
from learner.config import BootstrapConfig
from learner.inner_update import InnerState, InnerUpdate, select
from learner.meta_gradients import base
from learner.meta_gradients.base import Estimate
from learner.meta_gradients.bootstrap import matching_gradient
from learner.meta_gradients.linearization import Forward, Linearization, Terms
from learner.window import Correction, TapeEntry, outer_weights, score_coefficients


class Place(enum.Enum):
    """Where in the window an inner update is."""

    FIRST = "first"
    LATER = "later"
    PLAIN = "plain"  # nothing of it is kept


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
        keep: bool,
        bootstrap: BootstrapConfig | None = None,
    ):
        """`window`: K. `bootstrap`: with the objective of that name, of which the tape is K + L - 1 updates long.

        `keep`: updates leave the residuals of their linearisation on the tape; not where η is θ^0.
        """
        self._update = update
        self._objective = objective
        self._window = window
        self._initial = update.agent.starts_from_meta
        self._correction = correction
        self._keep = keep and not self._initial
        self._shares_forward = self._keep and objective != "same"
        self._weights = outer_weights(objective, window)
        scores = bool(correction.coefficient)
        self._later_lags = [lag for lag in correction.lags if lag] if scores else []
        self._with_outer = objective == "all"
        self._linear = Linearization(update, self._with_outer, scores and 0 in correction.lags)
        self._score_weights = jax.jit(self._score_weights)
        self._anchor_logits = jax.jit(lambda params, t: base.anchor_logits(update.agent, params, t))
        # A program of its own, so that a restored life gets the same bits.
        self._forward = jax.jit(self._linear.forward)
        self._outer_gradient = jax.jit(self._outer_gradient)
        self._shared_outer_gradient = jax.jit(self._shared_outer_gradient)
        self._matching_gradient = jax.jit(lambda *args: matching_gradient(update, bootstrap, *args))
        self._start = jax.jit(self._start, static_argnames="apart")
        self._add_score = jax.jit(self._add_score)
        self._pull_back = jax.jit(self._pull_back, static_argnames="first")
        self._finish = jax.jit(self._finish, static_argnames="apart")
        self._finish_initial = jax.jit(self._finish_initial, static_argnames="apart")

    def inner_update(
        self,
        meta_params: MetaParams,
        state: InnerState,
        trajectory: Trajectory,
        count: Array,
        place: Place,
        anchor: Array | None,
        forward: Forward | None,
    ) -> tuple[InnerState, Params, Any, Any]:
        """Ψ, and what the tape keeps of its linearisation (`TapeEntry.kept`).

        `place`, `anchor`: from `place` and `update_anchor`; `forward`: from `forward`, of the window's first update.
        """
        if place is Place.PLAIN:
            return *self._update(meta_params, state, trajectory, count), None
        if place is Place.LATER:
            return self._linear.later_update(meta_params, state, trajectory, count, anchor)
        return *self._linear.first_update(meta_params, state, trajectory, count, forward), forward

    @property
    def kept_updates(self) -> int:
        """How many of a window's updates leave their linearisation on the tape."""
        return self._window if self._keep else 0

    def place(self, position: int) -> Place:
        """Which way the update at `position` of the window goes: there are no more programs than ways."""
        if position >= self.kept_updates:
            return Place.PLAIN
        return Place.LATER if position else Place.FIRST

    def forward(self, params: Params, trajectory: Trajectory) -> Forward:
        """What the window's first update begins with (and the end of the window before, on the same θ and batch)."""
        return self._forward(params, trajectory)

    def update_anchor(self, tape: Sequence[TapeEntry], trajectory: Trajectory) -> Array | None:
        """What `inner_update` needs of the window's start: for kept linearisations of the outer loss only."""
        needed = self._with_outer and self.place(len(tape)) is Place.LATER
        return self._anchor(tape, trajectory) if needed else None

    def __call__(
        self,
        meta_params: MetaParams,
        tape: Sequence[TapeEntry],
        final: InnerState,
        last: TapeEntry,
        apart: bool = True,
        correction_scale: Array | float = 1.0,
    ) -> tuple[Estimate, dict[str, Array], Forward | None]:
        """The meta-gradient of one window.

        Args:
          meta_params: raw η, as it was during the window.
          tape: the window's updates, in order.
          final: θ and its optimiser state after them.
          last: holds the newest batch (the next window's first), its stream returns and baseline, and the number of
            inner updates before it; nothing else is read.
          apart: whether to propagate direct and correction part apart, for their norms and their cosine.
          correction_scale: times λ.

        Returns:
          The estimate; the outer loss's parts at `final` (with those of the matching loss, where there is one); and the
          network at `final` on the newest batch, for the update to come, where it is shared.
        """
        window = self._window
        entries = [*tape, last]
        apart = apart and self._correction.coefficient > 0
        scored = tape[-1].trajectory if self._objective == "same" else last.trajectory
        anchor, forward = self._anchor(tape, scored), None
        if self._shares_forward:
            forward = self._forward(final.params, scored)
            gradient, logs = self._shared_outer_gradient(final.params, scored, anchor, self._weights[window], forward)
        else:
            gradient, logs = self._outer_gradient(final.params, scored, anchor, self._weights[window])
        if self._objective == "bootstrap":
            params = entries[window].state.params if window < len(tape) else final.params
            gradient, parts = self._matching_gradient(params, final, gradient, scored, last.count)
            logs |= parts
        adjoint = self._start(gradient, final, apart=apart)
        score_weights = [None] * len(entries)
        if self._correction.coefficient:
            batches = [(entry.stream_return, entry.baseline) for entry in entries]
            score_weights = self._score_weights(batches, correction_scale)
        shares = []
        later = range(1, window)
        if len(later) > 1 and not self._keep and isinstance(last.stream_return, jax.core.Tracer):
            # In the graph the later updates are one program as well, by a loop: unrolled it would be compiled for each.
            adjoint, share = self._scan(meta_params, tape, adjoint, score_weights, later)
            shares.append(share)
            later = range(0)
        for j in reversed((0, *later)):
            scores = [
                (tape[j + lag].trajectory, score_weights[j + lag]) for lag in self._later_lags if j + lag < window
            ]
            terms = self._weights[j], score_weights[j]
            adjoint, share = self._pull(meta_params, tape, tape[j], adjoint, terms, scores, first=j == 0)
            shares.append(share)
        if self._initial:
            return self._finish_initial(adjoint, apart=apart), logs, forward
        return self._finish(meta_params, shares, apart=apart), logs, forward

    def _score_weights(self, batches: Sequence[tuple[Array, Array]], scale: Array | float) -> list[Array]:
        """[B] -C_j for each batch of the window, from its stream returns and its baseline; `scale` times λ."""
        returns, baselines = (jnp.stack(values) for values in zip(*batches, strict=True))
        return list(-scale * score_coefficients(returns, baselines, self._weights, self._correction))

    def _pull(self, meta_params, tape, entry: TapeEntry, adjoint, terms, scores, *, first: bool) -> tuple:
        """One update of the sweep: `_pull_back`, and what later batches' scores add to the adjoint of its input.

        scores: of each batch that `entry`'s parameters acted later, the trajectory and the weights of its scores.
        """
        first = first and not self._initial
        anchor = None
        if self._with_outer and not first and not self._keep:
            anchor = self._anchor(tape, entry.trajectory)
        adjoint, share = self._pull_back(meta_params, entry, anchor, adjoint, *terms, first=first)
        for trajectory, weights in () if first else scores:
            adjoint = self._add_score(adjoint, entry.state.params, trajectory, weights, entry.count)
        return adjoint, share

    def _scan(self, meta_params, tape, adjoint, score_weights, positions: range) -> tuple:
        """`_pull` through the updates at `positions`, from the last to the first, and the sum of their shares."""
        end = positions.stop

        def stack(values: Sequence[Any]) -> Any:
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *values)

        # A batch beyond the window scores nothing.
        scores = [
            (
                stack([tape[min(j + lag, end - 1)].trajectory for j in positions]),
                stack([score_weights[j + lag] if j + lag < end else 0 * score_weights[0] for j in positions]),
            )
            for lag in self._later_lags
        ]
        terms = stack([(self._weights[j], score_weights[j]) for j in positions])
        entries = stack([tape[j] for j in positions])

        def pull(adjoint, given):
            return self._pull(meta_params, tape, given[0], adjoint, *given[1:], first=False)

        adjoint, shares = jax.lax.scan(pull, adjoint, (entries, terms, scores), reverse=True)
        return adjoint, jax.tree.map(lambda share: share.sum(axis=0), shares)

    def _start(self, gradient: Params, final: InnerState, *, apart: bool) -> InnerState:
        zeros = jax.tree.map(jnp.zeros_like, final)
        parts = [InnerState(gradient, zeros.opt_state)] + ([zeros] if apart else [])
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)

    def _terms(self, outer: Array, score: Array | None, trajectory: Trajectory, parts: int) -> Terms:
        """An update's, by parts of the adjoint: the outer loss is the direct one's, the score the correction's."""
        outer = jnp.asarray(outer, trajectory.reward.dtype)
        score = jnp.zeros(trajectory.reward.shape[1:], outer.dtype) if score is None else score
        zero = jax.tree.map(jnp.zeros_like, Terms(outer, score))
        split = [Terms(outer, zero.score), Terms(zero.outer, score)] if parts > 1 else [Terms(outer, score)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *split)

    def _anchor(self, tape: Sequence[TapeEntry], trajectory: Trajectory) -> Array | None:
        return base.window_anchor(self._anchor_logits, tape, trajectory)

    def _outer_loss(self, output, trajectory, anchor, weight) -> tuple[Array, dict[str, Array]]:
        per_stream, logs = self._update.agent.outer_loss(output, trajectory, anchor)
        return weight * jnp.mean(per_stream), logs

    def _outer_gradient(self, params, trajectory, anchor, weight) -> tuple[Params, dict[str, Array]]:
        def loss(params):
            return self._outer_loss(self._update.agent.unroll(params, trajectory), trajectory, anchor, weight)

        return jax.grad(loss, has_aux=True)(params)

    def _shared_outer_gradient(self, params, trajectory, anchor, weight, forward) -> tuple[Params, dict[str, Array]]:
        """As `_outer_gradient`, from the forward pass, which the next inner update needs as well."""
        cotangent, logs = jax.grad(self._outer_loss, has_aux=True)(forward.output, trajectory, anchor, weight)
        return self._linear.pull(forward, cotangent, params), logs

    def _add_score(self, adjoint: InnerState, params, trajectory, weights, version) -> InnerState:
        """The adjoint of `params` with the gradient of their weighted score, which belongs to the last part."""

        agent = self._update.agent

        def weighted(params):
            output = agent.unroll(params, trajectory)
            return score_function(weights, base.score(agent, output, trajectory, version))

        gradient = jax.grad(weighted)(params)
        return adjoint._replace(params=jax.tree.map(lambda a, g: a.at[-1].add(g), adjoint.params, gradient))

    def _pull_back(self, meta_params, entry: TapeEntry, anchor, adjoint: InnerState, outer, score, *, first: bool):
        """Adjoint of the update's output -> adjoint of its input with the terms' gradients, and the shares of ∂/∂η
        ([parts, B, …] by stream).

        outer: w_j of the outer loss on its batch; score: [B] weights of its batch's scores, None where there are none.
        """
        terms = self._terms(outer, score, entry.trajectory, len(jax.tree.leaves(adjoint)[0]))
        meta = {}  # η enters no loss where it is θ^0
        if not self._initial:
            meta = base.per_stream_meta(meta_params, entry.trajectory.reward.shape[1])

        if not self._keep:
            derivatives = self._linear.rebuilt(meta, entry.state.params, entry.trajectory, entry.count, anchor, first)
        elif first:
            derivatives = self._linear.first_kept(meta, entry.trajectory, entry.kept)
        else:
            derivatives = self._linear.later_kept(entry.kept)

        _, through_optimizer = jax.vjp(lambda g, s: self._update.apply(g, s, entry.count), entry.grads, entry.state)

        def pull(adjoint: InnerState, terms: Terms):
            along, through = through_optimizer(adjoint)
            share, hessian = derivatives(along, terms)
            # A skipped batch gave no update; it scores nothing, either.
            share = jax.tree.map(lambda s: jnp.where(entry.applied, s, 0.0), share)
            if first:
                return adjoint, share  # nothing pulls further back
            pulled = through._replace(params=jax.tree.map(jnp.add, through.params, hessian))
            return select(entry.applied, pulled, adjoint), share

        return base.in_turn(lambda part: pull(*part), (adjoint, terms))

    def _finish_initial(self, adjoint: InnerState, *, apart: bool) -> Estimate:
        """The meta-gradient where η is θ⁰: the adjoint of θ⁰ itself."""
        parts = [{"params": jax.tree.map(lambda x, i=i: x[i], adjoint.params)} for i in range(1 + apart)]
        gradient = jax.tree.map(lambda *leaves: sum(leaves), *parts)
        direct, correction = self._apart_or_not(gradient, parts, apart)
        return Estimate(gradient, base.diagnostics(gradient, direct, correction, jnp.full((1, 1), jnp.nan)), direct)

    def _apart_or_not(self, gradient: MetaParams, parts: Sequence[MetaParams], apart: bool) -> tuple[Any, Any]:
        """Direct and correction part, (None, None) where they were not propagated apart."""
        if apart:
            return tuple(parts)
        if not self._correction.coefficient:
            return gradient, jax.tree.map(jnp.zeros_like, gradient)
        return None, None

    def _finish(self, meta_params: MetaParams, shares: Sequence[MetaParams], *, apart: bool) -> Estimate:
        total = jax.tree.map(lambda *leaves: sum(leaves), *shares)  # [parts, B] for scalars

        def reduced(part: MetaParams) -> MetaParams:
            return jax.tree.map(lambda m, leaf: leaf.sum() if m.ndim == 0 else leaf, meta_params, part)

        by_part = [reduced(jax.tree.map(lambda leaf, i=i: leaf[i], total)) for i in range(1 + apart)]
        gradient = jax.tree.map(lambda *leaves: sum(leaves), *by_part)
        direct, correction = self._apart_or_not(gradient, by_part, apart)
        pairs = zip(*map(jax.tree.leaves, (meta_params, total)), strict=True)
        by_stream = [t.sum(axis=0) for m, t in pairs if m.ndim == 0] or [jnp.full(1, jnp.nan)]
        return Estimate(gradient, base.diagnostics(gradient, direct, correction, jnp.stack(by_stream, axis=-1)), direct)


def last_entry(trajectory: Trajectory, count: Array, stream_return: Array, baseline: Array) -> TapeEntry:
    """A tape entry for a batch that no update has used yet: what the sweep reads of the window's last batch."""
    return TapeEntry(None, None, None, trajectory, count, None, stream_return, baseline, None)
