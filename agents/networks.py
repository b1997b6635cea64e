"""Networks: a torso, an optional LSTM core, and the policy and value heads, as pure functions.

Weights start as in Sonnet (and so IMPALA): normal of deviation 1/sqrt(fan-in), cut at two deviations; biases 0.
"""

import difflib
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, get_args, get_type_hints

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from agents.config import NetworkConfig
from agents.frames import stack_frames
from agents.networks_convolution import convolve, convolve_strips, max_pool, strips
from agents.types import FIRST, Array, CoreState, EnvironmentSpec, NetworkOutput, Params, Trajectory

TORSOS = get_args(get_type_hints(NetworkConfig)["torso"])

# (channels, kernel, stride) of each layer, no padding; then the width of the layer behind them.
_PLAIN_CNNS = {
    "nature": (((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512),  # Mnih et al. 2015, Methods
    "impala_shallow": (((16, 8, 4), (32, 4, 2)), 256),  # Espeholt et al. 2018, Figure 3 left
}
_DEEP_CHANNELS, _DEEP_WIDTH = (16, 32, 32), 256  # Espeholt et al. 2018, Figure 3 right


class Network(NamedTuple):
    """`unroll` over a trajectory gives what `step` gives one time after another."""

    init: Callable[[Array], Params]  # (key) -> params, float32
    initial_state: Callable[[int], CoreState]  # (batch size) -> core_state, zeros; () without an LSTM
    step: Callable[..., tuple[NetworkOutput, CoreState]]  # (params, observation [B, ...], step_type [B], core_state)
    unroll: Callable[[Params, Trajectory], NetworkOutput]  # -> logits [T+1, B, A], value [T+1, B]


def make_network(config: NetworkConfig, spec: EnvironmentSpec, heads: Mapping[str, int] | None = None) -> Network:
    """The network of `config` for the observations and actions of `spec`.

    `heads` names further linear heads on the torso, with their widths. They do not change how the others start.

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
        features = _torso(config, observation.reshape((-1, *observation.shape[2:])), dtype)
        if config.lstm:
            features = features.reshape((*time_batch, -1))
            features, core_state = _LSTM(config.lstm)(features, step_type, core_state)
            features = features.reshape((-1, config.lstm))
        logits = _head(config, spec.num_actions, "policy")(features)
        value = _head(config, 1, "value")(features)
        further = {name: _head(config, width, name)(features) for name, width in (heads or {}).items()}
        logits, features, further = jax.tree.map(lambda x: x.reshape((*time_batch, -1)), (logits, features, further))
        return NetworkOutput(logits, value.reshape(time_batch), features, further or ()), core_state

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
        return apply(params, _observation(config, spec, trajectory), trajectory.step_type, trajectory.core_state)[0]

    return Network(init, initial_state, step, unroll)


def make_function(
    config: NetworkConfig, spec: EnvironmentSpec, width: int
) -> tuple[Callable[[Array], Params], Callable[[Params, Trajectory], Array]]:
    """A function of single observations, with the torso of `config`: (key) -> params, and -> [T+1, B, width]."""
    check_network(config, spec)

    def forward(dtype: np.dtype, observation: Array) -> Array:
        x = _head(config, width, "out")(_torso(config, observation.reshape((-1, *observation.shape[2:])), dtype))
        return x.reshape((*observation.shape[:2], width))

    function = hk.without_apply_rng(hk.transform(forward))

    def init(key: Array) -> Params:
        return function.init(key, jnp.float32, jnp.zeros((1, 1, *spec.observation_shape), spec.observation_dtype))

    def unroll(params: Params, trajectory: Trajectory) -> Array:
        return function.apply(params, jax.tree.leaves(params)[0].dtype, _observation(config, spec, trajectory))

    return init, unroll


def _observation(config: NetworkConfig, spec: EnvironmentSpec, trajectory: Trajectory) -> Array:
    """[T+1, B, ...] what the agent saw; for a plain CNN on a CPU the `strips` that its first kernels cover."""
    observation = trajectory.observation
    if config.torso in _PLAIN_CNNS and jax.default_backend() == "cpu":
        _, kernel, stride = _PLAIN_CNNS[config.torso][0][0]
        observation = strips(observation, kernel, stride)
    if spec.frame_stack == 1:
        return observation
    return stack_frames(observation, trajectory.step_type, spec.frame_stack)


def check_network(config: NetworkConfig, spec: EnvironmentSpec) -> None:
    """Raises ValueError, in one line, where `config` is no network or cannot take the observations of `spec`."""
    if config.torso not in TORSOS:
        near = difflib.get_close_matches(str(config.torso), TORSOS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"network.torso is {config.torso!r}; allowed: {', '.join(TORSOS)}{hint}")
    if config.lstm < 0:
        raise ValueError(f"network.lstm is {config.lstm}; it must be 0 (no LSTM) or its width")
    if any(width < 1 for width in config.hidden):
        raise ValueError(f"network.hidden is {config.hidden}; widths must be at least 1")
    if config.torso in ("mlp", "table"):
        return
    shape = tuple(spec.observation_shape)
    smallest = _smallest_image(config.torso)
    if len(shape) != 3 or min(shape[1:]) < smallest:
        raise ValueError(
            f"network.torso {config.torso} needs images [channels, height, width] of at least {smallest}x{smallest}, "
            f"but observations of {spec.name} have shape {shape}: use network.torso mlp"
        )


def num_features(config: NetworkConfig, spec: EnvironmentSpec) -> int:
    """F: how many features the heads read."""
    if config.lstm:
        return config.lstm
    if config.torso in ("mlp", "table"):
        widths = config.hidden if config.torso == "mlp" else ()
        return widths[-1] if widths else math.prod(spec.observation_shape)
    return _PLAIN_CNNS[config.torso][1] if config.torso in _PLAIN_CNNS else _DEEP_WIDTH


def _smallest_image(torso: str) -> int:
    """The side of the smallest image that leaves one pixel behind the last convolution."""
    side = 1
    for _, kernel, stride in reversed(_PLAIN_CNNS[torso][0] if torso in _PLAIN_CNNS else ()):
        side = (side - 1) * stride + kernel
    return side


def _head(config: NetworkConfig, width: int, name: str) -> hk.Linear:
    """A linear layer on the features; on one-hot observations themselves a table of zeros."""
    if config.torso == "table":
        return hk.Linear(width, with_bias=False, w_init=jnp.zeros, name=name)
    return hk.Linear(width, name=name)


def _torso(config: NetworkConfig, observation: Array, dtype: np.dtype) -> Array:
    """[N, ...] observations, or `strips` of images -> [N, features]."""
    scale = 1 / 255 if observation.dtype == jnp.uint8 else 1.0
    if config.torso in ("mlp", "table"):
        x = observation.reshape((observation.shape[0], -1)).astype(dtype) * scale
        return x if config.torso == "table" else hk.nets.MLP(config.hidden, activate_final=True, name="mlp")(x)
    x = jnp.moveaxis(observation, 1, -1) if observation.ndim == 4 else observation
    if config.torso == "impala_deep":
        x, width = _residual_cnn(x, scale, dtype), _DEEP_WIDTH
    else:
        layers, width = _PLAIN_CNNS[config.torso]
        for index, (channels, kernel, stride) in enumerate(layers):
            convolution = _Convolution(channels, kernel, stride, "VALID", f"conv_{index}")
            x = jax.nn.relu(convolution(x, dtype, scale if index == 0 else 1.0))
    x = hk.Linear(width, name="torso_out")(x.reshape((x.shape[0], -1)))
    return jax.nn.relu(x)


def _residual_cnn(x: Array, scale: float, dtype: np.dtype) -> Array:
    """[N, H, W, C] -> [N, H', W', 32]: IMPALA's deep network up to its last convolution."""
    for section, channels in enumerate(_DEEP_CHANNELS):
        name = f"section_{section}"
        x = _Convolution(channels, 3, 1, "SAME", name)(x, dtype, scale if section == 0 else 1.0)
        x = max_pool(x)
        for block in range(2):
            y = x
            for layer in range(2):
                convolution = _Convolution(channels, 3, 1, "SAME", f"{name}_block_{block}_{layer}")
                y = convolution(jax.nn.relu(y), dtype)
            x = x + y
    return jax.nn.relu(x)


class _Convolution(hk.Module):
    """[N, H, W, C], or `strips` [N, C, ...], -> [N, H', W', channels]; w [K, K, C, channels], b [channels]."""

    def __init__(self, channels: int, kernel: int, stride: int, padding: str, name: str):
        super().__init__(name)
        self._channels, self._kernel, self._stride, self._padding = channels, kernel, stride, padding

    def __call__(self, x: Array, dtype: np.dtype, scale: float = 1.0) -> Array:
        """The convolution of scale * x, in `dtype`."""
        are_strips = x.ndim == 5
        shape = (self._kernel, self._kernel, x.shape[1 if are_strips else -1], self._channels)
        w = hk.get_parameter("w", shape, dtype, _fan_in_normal(math.prod(shape[:3])))
        b = hk.get_parameter("b", shape[3:], dtype, jnp.zeros)
        # Scaling the kernel is cheaper than scaling every pixel, and pixels stay bytes until they are multiplied.
        w = w * scale
        return (convolve_strips(x, w) if are_strips else convolve(x, w, self._stride, self._padding)) + b


class _LSTM(hk.Module):
    """[T, B, D], step_type [T, B], (hidden, cell) -> [T, B, width], (hidden, cell).

    The state is zeroed before every time whose step type is FIRST. Forget gates are biased by 1 (Jozefowicz et al.
    2015). The input's share of the gates does not depend on the state, so it is computed for all times at once.
    """

    def __init__(self, width: int):
        super().__init__("lstm")
        self._width = width

    def __call__(self, x: Array, step_type: Array, state: CoreState) -> tuple[Array, CoreState]:
        inputs, width = x.shape[-1], self._width
        w_input = hk.get_parameter("w_input", (inputs, 4 * width), x.dtype, _fan_in_normal(inputs + width))
        w_hidden = hk.get_parameter("w_hidden", (width, 4 * width), x.dtype, _fan_in_normal(inputs + width))
        b = hk.get_parameter("b", (4 * width,), x.dtype, jnp.zeros)

        def core(state, now):
            gates, first = now
            hidden, cell = (jnp.where(first[:, None], 0, part) for part in state)
            i, g, f, o = jnp.split(gates + hidden @ w_hidden, 4, axis=-1)
            cell = jax.nn.sigmoid(f + 1) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
            return (hidden, cell), hidden

        state, outputs = jax.lax.scan(core, tuple(state), (x @ w_input + b, step_type == FIRST))
        return outputs, state


def _fan_in_normal(fan_in: int) -> hk.initializers.Initializer:
    return hk.initializers.TruncatedNormal(1 / math.sqrt(fan_in))
