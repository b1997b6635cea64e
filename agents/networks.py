"""Networks: a torso, an optional LSTM core, and the policy and value heads, as pure functions.

Weights start as in Sonnet (and so IMPALA): truncated normal of deviation 1/sqrt(fan-in), biases 0.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from agents.config import NetworkConfig
from agents.frames import stack_frames
from agents.types import FIRST, Array, CoreState, EnvironmentSpec, NetworkOutput, Params, Trajectory

TORSOS = ("mlp", "nature", "impala_shallow", "impala_deep")

# (channels, kernel, stride) of each layer, no padding; then the width of the layer behind them.
_PLAIN_CNNS = {
    "nature": (((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512),  # Mnih et al. 2015, Methods
    "impala_shallow": (((16, 8, 4), (32, 4, 2)), 256),  # Espeholt et al. 2018, Figure 3 left
}
_DEEP_CHANNELS = (16, 32, 32)  # Espeholt et al. 2018, Figure 3 right


class Network(NamedTuple):
    """`unroll` over a trajectory gives what `step` gives one time after another."""

    init: Callable[[Array], Params]  # (key) -> params, float32
    initial_state: Callable[[int], CoreState]  # (batch size) -> core_state, zeros; () without an LSTM
    step: Callable[..., tuple[NetworkOutput, CoreState]]  # (params, observation [B, ...], step_type [B], core_state)
    unroll: Callable[[Params, Trajectory], NetworkOutput]  # -> logits [T+1, B, A], value [T+1, B]


def make_network(config: NetworkConfig, spec: EnvironmentSpec) -> Network:
    """The network of `config` for the observations and actions of `spec`.

    Observations of type uint8 are scaled by 1/255 inside. All computation is in the parameters' type. A stack of
    frames is rebuilt inside `unroll` (see `frames.stack_frames`); `step` takes it as the environment gives it.

    Raises:
      ValueError: see `check_network`.
    """
    check_network(config, spec)

    def forward(
        dtype: np.dtype, observation: Array, step_type: Array, core_state: CoreState
    ) -> tuple[NetworkOutput, CoreState]:
        time_batch = step_type.shape
        flat = observation.reshape((-1, *spec.observation_shape))
        features = _torso(config, flat, dtype)
        if config.lstm:
            features = features.reshape((*time_batch, -1))
            features, core_state = _lstm(config.lstm, features, step_type, core_state)
            features = features.reshape((-1, config.lstm))
        logits = hk.Linear(spec.num_actions, name="policy")(features)
        value = hk.Linear(1, name="value")(features)
        return NetworkOutput(logits.reshape((*time_batch, -1)), value.reshape(time_batch)), core_state

    network = hk.without_apply_rng(hk.transform(forward))

    def initial_state(batch_size: int) -> CoreState:
        if not config.lstm:
            return ()
        return (jnp.zeros((batch_size, config.lstm), jnp.float32), jnp.zeros((batch_size, config.lstm), jnp.float32))

    def init(key: Array) -> Params:
        observation = jnp.zeros((1, 1, *spec.observation_shape), spec.observation_dtype)
        return network.init(key, jnp.float32, observation, jnp.zeros((1, 1), jnp.int8), initial_state(1))

    def apply(params, observation, step_type, core_state):
        dtype = jax.tree.leaves(params)[0].dtype
        core_state = jax.tree.map(lambda x: jnp.asarray(x, dtype), core_state)
        return network.apply(params, dtype, observation, step_type, core_state)

    def step(params, observation, step_type, core_state):
        output, core_state = apply(params, observation[None], step_type[None], core_state)
        return jax.tree.map(lambda x: x[0], output), core_state

    def unroll(params, trajectory):
        observation = trajectory.observation
        if spec.frame_stack > 1:
            observation = stack_frames(observation, trajectory.step_type, spec.frame_stack)
        return apply(params, observation, trajectory.step_type, trajectory.core_state)[0]

    return Network(init, initial_state, step, unroll)


def check_network(config: NetworkConfig, spec: EnvironmentSpec) -> None:
    """Raises ValueError, in one line, where `config` is no network or cannot take the observations of `spec`."""
    if config.torso not in TORSOS:
        raise ValueError(f"network.torso is {config.torso!r}; allowed: {', '.join(TORSOS)}")
    if config.lstm < 0:
        raise ValueError(f"network.lstm is {config.lstm}; it must be 0 (no LSTM) or its width")
    if any(width < 1 for width in config.hidden):
        raise ValueError(f"network.hidden is {config.hidden}; widths must be at least 1")
    if config.torso == "mlp":
        return
    shape = tuple(spec.observation_shape)
    smallest = _smallest_image(config.torso)
    if len(shape) != 3 or min(shape[1:]) < smallest:
        raise ValueError(
            f"network.torso {config.torso} needs images [channels, height, width] of at least {smallest}x{smallest}, "
            f"but observations of {spec.name} have shape {shape}: use network.torso mlp"
        )


def _smallest_image(torso: str) -> int:
    """The side of the smallest image that leaves one pixel behind the last convolution."""
    side = 1
    for _, kernel, stride in reversed(_PLAIN_CNNS[torso][0] if torso in _PLAIN_CNNS else ()):
        side = (side - 1) * stride + kernel
    return side


def _torso(config: NetworkConfig, observation: Array, dtype: np.dtype) -> Array:
    """[N, ...] observations -> [N, features]."""
    scale = 1 / 255 if observation.dtype == jnp.uint8 else 1.0
    if config.torso == "mlp":
        x = observation.reshape((observation.shape[0], -1)).astype(dtype) * scale
        return hk.nets.MLP(config.hidden, activate_final=True, name="mlp")(x)
    x = jnp.moveaxis(observation, 1, -1).astype(dtype)
    if config.torso == "impala_deep":
        x = _residual_cnn(x, scale)
        width = 256
    else:
        layers, width = _PLAIN_CNNS[config.torso]
        for index, (channels, kernel, stride) in enumerate(layers):
            conv = _Convolution(channels, kernel, stride, "VALID", name=f"conv_{index}")
            x = jax.nn.relu(conv(x, scale if index == 0 else 1.0))
    x = hk.Linear(width, name="torso_out")(x.reshape((x.shape[0], -1)))
    return jax.nn.relu(x)


def _residual_cnn(x: Array, scale: float) -> Array:
    """[N, H, W, C] -> [N, H', W', 32]: IMPALA's deep network up to its last convolution."""
    for section, channels in enumerate(_DEEP_CHANNELS):
        name = f"section_{section}"
        x = _Convolution(channels, 3, 1, "SAME", name=name)(x, scale if section == 0 else 1.0)
        x = hk.max_pool(x, (3, 3, 1), (2, 2, 1), "SAME")
        for block in range(2):
            y = x
            for layer in range(2):
                y = _Convolution(channels, 3, 1, "SAME", name=f"{name}_block_{block}_{layer}")(jax.nn.relu(y))
            x = x + y
    return jax.nn.relu(x)


class _Convolution(hk.Module):
    """[N, H, W, C] -> [N, H', W', channels]; parameters w [kernel, kernel, C, channels] and b [channels]."""

    def __init__(self, channels: int, kernel: int, stride: int, padding: str, name: str):
        super().__init__(name)
        self._channels, self._kernel, self._stride, self._padding = channels, kernel, stride, padding

    def __call__(self, x: Array, scale: float = 1.0) -> Array:
        shape = (self._kernel, self._kernel, x.shape[-1], self._channels)
        init = hk.initializers.TruncatedNormal(1 / math.sqrt(math.prod(shape[:3])))
        w = hk.get_parameter("w", shape, x.dtype, init)
        b = hk.get_parameter("b", shape[3:], x.dtype, jnp.zeros)
        y = jax.lax.conv_general_dilated(
            x, w * scale, (self._stride, self._stride), self._padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y + b


def _lstm(width: int, x: Array, step_type: Array, state: CoreState) -> tuple[Array, CoreState]:
    """[T, B, D] -> [T, B, width], state (hidden, cell): zeroed before every time whose step type is FIRST.

    The equations are Jozefowicz et al. 2015's (forget gate biased by 1). The input's share of the gates does not
    depend on the state, so it is computed for all times at once.
    """
    gates = hk.Linear(4 * width, name="lstm_input")(x)
    init = hk.initializers.TruncatedNormal(1 / math.sqrt(width))
    w = hk.get_parameter("lstm_hidden", (width, 4 * width), x.dtype, init)

    def core(state, inputs):
        gates, first = inputs
        hidden, cell = (jnp.where(first[:, None], 0, s) for s in state)
        i, g, f, o = jnp.split(gates + hidden @ w, 4, axis=-1)
        cell = jax.nn.sigmoid(f + 1) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (hidden, cell), hidden

    state, outputs = jax.lax.scan(core, tuple(state), (gates, step_type == FIRST))
    return outputs, state
