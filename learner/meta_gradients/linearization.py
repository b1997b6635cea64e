"""One inner update's second derivatives along a direction of θ, in two ways.

With L(η, θ) the inner loss, the sweep needs (∂²L/∂θ²)ᵀv and (∂²L/∂η∂θ)ᵀv. Both are the tangent of the gradient
(∂L/∂η, ∂L/∂θ) as θ moves along v: forward over reverse (Kemaev et al. 2025). What the window's objective adds at the
same θ on the same batch, an outer loss or a score, rides along: the loss is L + ε X, and ε moves with θ. Its gradient
costs no pass through the network of its own.

Rebuilt: that gradient is linearised anew from the tape entry when the sweep comes to it; memory is flat in K.
Kept: it was linearised when the update was made, and the tape holds what this left (the residuals); the sweep repeats
nothing. Of the window's first update, which has no Hessian, only the network is linearised.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from agents.surrogates import score_function
from agents.types import Array, MetaParams, NetworkOutput, Params, Trajectory
from learner.inner_update import InnerState, InnerUpdate
from learner.meta_gradients import base


class Terms(NamedTuple):
    """What the window's objective adds at θ^j on D^j, beside what comes through later updates."""

    outer: Array  # scalar, the weight w_j of the outer loss
    score: Array  # [B], the weights of the streams' scores: -C_j of the sampling correction


Derivatives = Callable[[Params, Terms], tuple[MetaParams, Params | None]]


class Forward(NamedTuple):
    """The network at one θ on one batch, and how its output moves with θ."""

    output: NetworkOutput
    residuals: list[Array]


class Linearization:
    """Second derivatives of one agent's inner update.

    The structure of what is kept is known once an update has been traced, so that the arrays alone have to travel.
    """

    def __init__(self, update: InnerUpdate, with_outer: bool, with_score: bool):
        """`with_outer`, `with_score`: which of the `Terms` can be other than zero."""
        self._update = update
        self._with_outer = with_outer
        self._with_score = with_score
        self._network: Any = None  # tree structures of kept linear functions
        self._gradient: Any = None

    def rebuilt(
        self, meta: MetaParams, params: Params, trajectory: Trajectory, count: Array, anchor: Array | None, first: bool
    ) -> Derivatives:
        """(v, terms) -> (∂²L/∂η∂θ)ᵀv and (∂²L/∂θ²)ᵀv with the terms' gradient; None for the latter where `first`."""
        function = self._derivatives(meta, trajectory, count, anchor, first)
        _, linear, _ = jax.linearize(function, params, _no_terms(trajectory), has_aux=True)
        return (lambda direction, terms: (linear(direction, terms), None)) if first else linear

    def forward(self, params: Params, trajectory: Trajectory) -> Forward:
        """The network, linearised."""
        output, linear = jax.linearize(lambda p: self._update.agent.unroll(p, trajectory), params)
        residuals, self._network = jax.tree.flatten(linear)
        return Forward(output, residuals)

    def pull(self, forward: Forward, cotangent: NetworkOutput, params: Params) -> Params:
        """A cotangent of the network's output -> one of θ."""
        return jax.linear_transpose(self._moved(forward), params)(cotangent)[0]

    def first_update(
        self, meta: MetaParams, state: InnerState, trajectory: Trajectory, count: Array, forward: Forward
    ) -> tuple[InnerState, Params, Any]:
        """Ψ, from the network's linearisation: what `InnerUpdate.__call__` returns."""

        def head(output: NetworkOutput):
            return self._update.head(meta, output, trajectory)

        (loss, (output, logs)), cotangent = jax.value_and_grad(head, has_aux=True)(forward.output)
        grads = self.pull(forward, cotangent, state.params)
        return self._update.apply(grads, state, count), grads, (loss, output, logs)

    def first_kept(self, meta: MetaParams, trajectory: Trajectory, forward: Forward) -> Derivatives:
        """`rebuilt` for the window's first update, from what `forward` left."""

        def of_meta(output: NetworkOutput) -> MetaParams:
            return jax.grad(lambda m: self._update.head(m, output, trajectory)[0])(meta)

        def derivatives(direction: Params, terms: Terms) -> tuple[MetaParams, None]:
            return jax.jvp(of_meta, (forward.output,), (self._moved(forward)(direction),))[1], None

        return derivatives

    def later_update(
        self, meta: MetaParams, state: InnerState, trajectory: Trajectory, count: Array, anchor: Array | None
    ) -> tuple[InnerState, Params, Any, list[Array]]:
        """Ψ, with the residuals of its gradient's linearisation."""
        streams = trajectory.reward.shape[1]
        function = self._derivatives(base.per_stream_meta(meta, streams), trajectory, count, anchor, first=False)
        (_, grads), linear, logs = jax.linearize(function, state.params, _no_terms(trajectory), has_aux=True)
        residuals, self._gradient = jax.tree.flatten(linear)
        return self._update.apply(grads, state, count), grads, logs, residuals

    def later_kept(self, residuals: list[Array]) -> Derivatives:
        """`rebuilt` for the other updates, from what `later_update` left."""
        return jax.tree.unflatten(self._gradient, residuals)

    def _moved(self, forward: Forward) -> Any:
        return jax.tree.unflatten(self._network, forward.residuals)

    def _derivatives(self, meta, trajectory, count, anchor, first: bool):
        """(θ, terms) -> gradients of the inner loss and the terms, and (loss, network output, logs).

        Of the `first` update, from whose θ nothing pulls further back, only ∂/∂η.
        """
        agent = self._update.agent

        def total(meta, params, terms: Terms):
            loss, (output, logs) = self._update.loss(meta, params, trajectory)
            objective = loss
            if self._with_outer and not first:
                objective += terms.outer * jnp.mean(agent.outer_loss(output, trajectory, anchor)[0])
            if self._with_score and not first:
                objective += score_function(terms.score, base.score(agent, output, trajectory, count))
            return objective, (loss, output, logs)

        return lambda params, terms: jax.grad(total, argnums=0 if first else (0, 1), has_aux=True)(meta, params, terms)


def _no_terms(trajectory: Trajectory) -> Terms:
    dtype = trajectory.reward.dtype
    return Terms(jnp.zeros((), dtype), jnp.zeros(trajectory.reward.shape[1], dtype))
