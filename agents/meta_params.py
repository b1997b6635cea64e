"""Meta-parameters η that are hyperparameters of a loss: names, bounds, bijectors, starting values and forms.

value = bound · sigmoid(raw) (Zahavy et al. 2020). In the form "scalar" raw is a number. In the others it
is what a small network says, of the torso's features at each time ("state", STAC's appendix) or of the mean rewards of
the last batches ("history", Flennerhag et al. 2021, Two Colors). The network's last layer starts at zero weights and at
the scalar's starting value as bias, so that every form starts as the scalar does.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from agents.config import SelfTunedConfig
from agents.networks_meta import hyperparameter_network
from agents.types import Array, MetaParams, NetworkOutput, Trajectory, real_transitions

# These are read where a transition ends, whose state they are about: γ says how much it counts, λ whether to bootstrap
# there.
_OF_NEXT_STATE = ("gamma", "trace_lambda")


class MetaParameter(NamedTuple):
    """One self-tuned hyperparameter."""

    name: str
    bound: float
    raw_init: float


class MetaParameters:
    """The self-tuned hyperparameters of an agent, all of one form."""

    def __init__(self, parameters: Sequence[MetaParameter], config: SelfTunedConfig, num_features: int):
        """`num_features`: F of the network's features; read by the form "state" only."""
        self._parameters = tuple(parameters)
        self._form = config.form if parameters else "scalar"
        self._history = config.history
        inputs = num_features if self._form == "state" else config.history
        self._network = hyperparameter_network(inputs, config.hidden, [p.raw_init for p in self._parameters])

    def init(self, key: Array) -> MetaParams:
        """Raw starting values: {name: scalar}, or the network's parameters."""
        if self._form == "scalar":
            return {p.name: jnp.asarray(p.raw_init, float) for p in self._parameters}
        return self._network.init(key)

    def scalars(self, raw: MetaParams) -> dict[str, Array]:
        """Values by name, of the raw parameters' shapes; none where they depend on more than η."""
        if self._form != "scalar":
            return {}
        return {p.name: p.bound * jax.nn.sigmoid(raw[p.name]) for p in self._parameters}

    def values(self, raw: MetaParams, output: NetworkOutput, trajectory: Trajectory) -> dict[str, Array]:
        """Values by name: of the raw parameters' shapes (scalar), [T, B] (state), or scalars (history).

        What the form "state" reads of θ is stopped: θ does not learn to please its own loss.
        """
        if self._form == "scalar":
            return self.scalars(raw)
        x = jax.lax.stop_gradient(output.features) if self._form == "state" else trajectory.context
        all_raw = self._network.apply(raw, x.astype(jax.tree.leaves(raw)[0].dtype))
        values = {p.name: p.bound * jax.nn.sigmoid(all_raw[..., i]) for i, p in enumerate(self._parameters)}
        if self._form == "state":
            values = {name: v[1:] if name.startswith(_OF_NEXT_STATE) else v[:-1] for name, v in values.items()}
        return values

    def logs(self, values: dict[str, Array]) -> dict[str, Array]:
        """The batch's means of values that are no constants of η."""
        return {} if self._form == "scalar" else {f"meta/{name}": jnp.mean(value) for name, value in values.items()}

    def init_context(self) -> Any:
        """[history] mean rewards of past batches, oldest first; () where nothing reads them."""
        return jnp.zeros(self._history) if self._form == "history" else ()

    def next_context(self, context: Any, trajectory: Trajectory) -> Any:
        """The context with this batch's mean reward a real transition."""
        if self._form != "history":
            return context
        real = real_transitions(trajectory.step_type)
        mean = jnp.sum(trajectory.reward * real) / jnp.maximum(jnp.sum(real), 1)
        return jnp.append(context[1:], mean.astype(context.dtype))
