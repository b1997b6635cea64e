"""Networks whose parameters are meta-parameters."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from agents.types import Array, MetaParams


class MetaNetwork(NamedTuple):
    init: Callable[[Array], MetaParams]  # (key) -> parameters, {module: {name: array}}
    apply: Callable[..., Array | tuple[Array, ...]]  # (parameters, *inputs), in the inputs' type


def hyperparameter_network(inputs: int, hidden: Sequence[int], starts: Sequence[float]) -> MetaNetwork:
    """[..., inputs] -> [..., len(starts)], which at birth is `starts` whatever the input."""

    def forward(x: Array) -> Array:
        start = jnp.asarray(starts, x.dtype)
        x = hk.nets.MLP(hidden, activate_final=True, name="meta")(x)
        w = hk.get_parameter("w", (x.shape[-1], len(starts)), x.dtype, jnp.zeros)
        return x @ w + hk.get_parameter("b", start.shape, x.dtype, lambda shape, dtype: start)

    network = hk.without_apply_rng(hk.transform(forward))
    return MetaNetwork(lambda key: network.init(key, jnp.zeros(inputs)), network.apply)


def rule_network(inputs: int, predictions: int, hidden: int, embedding: int) -> MetaNetwork:
    """LPG's rule: an LSTM that reads each stream from its end to its start.

    `apply` takes inputs [T, B, inputs], the predictions y(s_t) and y(s_(t+1)), [T, B, predictions], and ends [T, B]:
    whether an episode ends with the transition, before which the LSTM forgets what it has read. It returns the policy's
    direction [T, B] and the predictions' target logits [T, B, predictions].
    """

    def forward(x: Array, y: Array, next_y: Array, ends: Array) -> tuple[Array, Array]:
        embed = hk.nets.MLP([embedding, 1], name="embed")
        x = jnp.concatenate([x, embed(y), embed(next_y)], axis=-1)
        core = hk.ResetCore(hk.LSTM(hidden))
        state = jax.tree.map(lambda part: part.astype(x.dtype), core.initial_state(x.shape[1]))
        out, _ = hk.dynamic_unroll(core, (x, ends), state, reverse=True)
        return hk.Linear(1, name="policy")(out)[..., 0], hk.Linear(predictions, name="target")(out)

    network = hk.without_apply_rng(hk.transform(forward))

    def init(key: Array) -> MetaParams:
        y = jnp.zeros((1, 1, predictions))
        return network.init(key, jnp.zeros((1, 1, inputs)), y, y, jnp.zeros((1, 1), bool))

    return MetaNetwork(init, network.apply)
