"""What every differentiation of the window returns, and the gradients at its boundaries."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from agents.types import Agent, Array, MetaParams, NetworkOutput, Params, Trajectory
from learner.window import TapeEntry


class Estimate(NamedTuple):
    """A meta-gradient (of a loss: to be descended) in the raw meta-parameters, and what to log of it."""

    gradient: MetaParams
    diagnostics: dict[str, Array]
    direct: MetaParams | None = None  # of the gradient, what no sampling correction is in; where it was told apart


def penalised(
    agent: Agent, estimate: Estimate, meta_params: MetaParams, params: Params, trajectory: Trajectory
) -> tuple[Estimate, Array]:
    """An estimate with the gradient of what η itself is charged for at `params`, and that charge."""
    output = agent.unroll(params, trajectory)
    charge, gradient = jax.value_and_grad(lambda meta: jnp.mean(agent.meta_penalty(meta, output, trajectory)))(
        meta_params
    )
    gradient = jax.tree.map(jnp.add, estimate.gradient, gradient)
    return Estimate(gradient, estimate.diagnostics | {"norm": optax.tree.norm(gradient)}), charge


def anchor_logits(agent: Agent, anchor_params: Params, trajectory: Trajectory) -> Array | None:
    """[T+1, B, A] of the policy at the window's start, None where the agent's outer loss has no use for it."""
    return agent.unroll(anchor_params, trajectory).logits if agent.uses_anchor else None


def window_anchor(
    anchor_logits: Callable[[Params, Trajectory], Array | None], tape: Sequence[TapeEntry], trajectory: Trajectory
) -> Array | None:
    """`anchor_logits` of the window's start on `trajectory`; for the window's first batch the inner update had them."""
    if trajectory is tape[0].trajectory:
        return tape[0].logits
    return anchor_logits(tape[0].state.params, trajectory)


def outer_loss(
    agent: Agent, params: Params, trajectory: Trajectory, anchor: Array | None
) -> tuple[Array, dict[str, Array]]:
    """[B] the window's score at `params` on `trajectory`, and its parts; `anchor` from `anchor_logits`."""
    return agent.outer_loss(agent.unroll(params, trajectory), trajectory, anchor)


def score(agent: Agent, output: NetworkOutput, trajectory: Trajectory, version: Array) -> Array:
    """[B] Σ log π of the actions that `version`, whose output this is, took; 0 for streams acted by another."""
    acted = trajectory.params_version == version.astype(trajectory.params_version.dtype)
    return jnp.where(acted, agent.stream_score(output, trajectory), 0.0)


def per_stream_meta(meta_params: MetaParams, streams: int) -> MetaParams:
    """Scalars repeated for every stream, so that one backward pass gives each stream's share of the meta-gradient."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (streams,)) if leaf.ndim == 0 else leaf, meta_params)


def in_turn(function: Callable[[Any], Any], items: Any) -> Any:
    """What `jax.vmap` returns for `items` (trees with a leading axis), one item after the other.

    Side by side, each layer's values of all items would go through memory between two layers: slower on a CPU.
    A loop does, but for XLA's own convolutions: its CPU compiler leaves them as they stand in a loop's body, where a
    sweep through padded ones is five times slower. Where there are any, the program has no loop: docs/performance.md.
    """
    parts = [jax.tree.map(lambda leaf, i=i: leaf[i], items) for i in range(len(jax.tree.leaves(items)[0]))]
    if len(parts) > 1 and "conv_general_dilated" not in str(jax.make_jaxpr(function)(parts[0])):
        return jax.lax.map(function, items)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(function, parts))


def diagnostics(gradient: Any, direct: Any, correction: Any, by_stream: Array) -> dict[str, Array]:
    """Norms of the two parts of a meta-gradient, their cosine, and the signal-to-noise ratio across streams.

    Args:
      gradient: the meta-gradient.
      direct: the part through the update rule; None where the parts were not propagated apart.
      correction: the sampling correction's part; likewise.
      by_stream: [B, d] the streams' shares of the meta-gradient's d scalar components; they sum to these.

    Returns:
      `norm`; `direct_norm`, `correction_norm` and `cosine` (NaN where undefined); `snr`: the norm of the shares' sum
      over its standard error, were the streams independent: sqrt(B · Σ_i var_i). NaN without scalar components.
    """
    streams = by_stream.shape[0]
    spread = jnp.sqrt(streams * jnp.sum(jnp.var(by_stream, axis=0, ddof=1))) if streams > 1 else jnp.nan
    out = {"norm": optax.tree.norm(gradient), "snr": jnp.linalg.norm(by_stream.sum(axis=0)) / spread}
    if direct is None:
        return out
    direct_norm, correction_norm = optax.tree.norm(direct), optax.tree.norm(correction)
    return out | {
        "direct_norm": direct_norm,
        "correction_norm": correction_norm,
        "cosine": optax.tree.vdot(direct, correction) / (direct_norm * correction_norm),
    }


def norms_by_name(tree: MetaParams) -> dict[str, Array]:
    """Scalar leaves as they are, the norms of the others."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf if jnp.ndim(leaf) == 0 else jnp.linalg.norm(leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    }
