"""The one differentiable step of θ: (θ', opt') = Ψ(η, θ, opt, D)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from agents.types import Agent, Array, MetaParams, NetworkOutput, Params, Trajectory
from learner.optimizers import InnerOptimizer


class InnerState(NamedTuple):
    """What an inner update changes, and the meta-gradient differentiates."""

    params: Params
    opt_state: Any


class InnerUpdate(NamedTuple):
    """Ψ in the two parts that the meta-gradients take apart: the loss's gradient, and the optimiser."""

    agent: Agent
    optimizer: InnerOptimizer

    def loss(self, meta_params: MetaParams, params: Params, trajectory: Trajectory) -> tuple[Array, Any]:
        """Mean over streams of the agent's inner loss; also (network output, logs)."""
        return self.head(meta_params, self.agent.unroll(params, trajectory), trajectory)

    def head(self, meta_params: MetaParams, output: NetworkOutput, trajectory: Trajectory) -> tuple[Array, Any]:
        """`loss` of the network's output."""
        per_stream, logs = self.agent.inner_loss(meta_params, output, trajectory)
        return jnp.mean(per_stream), (output, logs)

    def apply(self, grads: Params, state: InnerState, count: Array) -> InnerState:
        """The optimiser's step."""
        return InnerState(*self.optimizer.update(grads, state.opt_state, state.params, count))

    def __call__(
        self, meta_params: MetaParams, state: InnerState, trajectory: Trajectory, count: Array
    ) -> tuple[InnerState, Params, Any]:
        """Ψ. Returns the next state, the gradient of the inner loss, and (loss, network output, logs)."""
        (loss, (output, logs)), grads = jax.value_and_grad(self.loss, argnums=1, has_aux=True)(
            meta_params, state.params, trajectory
        )
        return self.apply(grads, state, count), grads, (loss, output, logs)


def nonfinite_leaves(tree: Any) -> Array:
    """[number of leaves] bool: which leaves hold a NaN, an infinity, or more than can be squared, in the order of
    `jax.tree.leaves`. A square that overflows would stay in a second moment for ever, and nothing move again.
    """
    return jnp.stack([~jnp.isfinite(jnp.sum(jnp.square(leaf))) for leaf in jax.tree.leaves(tree)])


def select(flag: Array, new: Any, old: Any) -> Any:
    """`new` where the scalar `flag` holds, else `old`, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(flag, a, b), new, old)
