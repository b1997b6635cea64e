import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.config import NetworkConfig
from agents.frames import stack_frames
from agents.networks import check_network, make_network
from agents.types import FIRST, LAST, MID, EnvironmentSpec, Trajectory

# The smallest images that the torsos take keep the tests quick.
SIDE = {"mlp": 5, "nature": 36, "impala_shallow": 20, "impala_deep": 9}


def _spec(shape, dtype=np.uint8, actions=3, stack=1):
    return EnvironmentSpec("test", shape, dtype, actions, stack, 1)


def _trajectory(observation, step_type, core_state):
    return Trajectory(observation, jnp.asarray(step_type, jnp.int8), *[None] * 4, core_state, None)


def _bytes(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def test_table_looks_up_what_it_holds_and_starts_at_zero():
    network = make_network(NetworkConfig("table"), _spec((4,), np.float32), {"further": 2})
    params = network.init(jax.random.key(0))
    assert {name: {k: v.shape for k, v in head.items()} for name, head in params.items()} == {
        "policy": {"w": (4, 3)},
        "value": {"w": (4, 1)},
        "further": {"w": (4, 2)},
    }
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(params))
    params = jax.tree.map(lambda x: x + jnp.arange(x.size, dtype=x.dtype).reshape(x.shape), params)
    states = np.array([[2, 0], [3, 1]])
    output = network.unroll(params, _trajectory(np.eye(4, dtype=np.float32)[states], np.ones((2, 2)), ()))
    np.testing.assert_array_equal(output.logits, params["policy"]["w"][states])
    np.testing.assert_array_equal(output.value, params["value"]["w"][states, 0])
    np.testing.assert_array_equal(output.heads["further"], params["further"]["w"][states])


@pytest.mark.parametrize(
    ("torso", "lstm"), [("mlp", 0), ("mlp", 6), ("nature", 0), ("impala_shallow", 6), ("impala_deep", 0)]
)
def test_unroll_equals_steps_over_stacked_frames(torso, lstm):
    side, stack, streams = SIDE[torso], 4, 3
    network = make_network(NetworkConfig(torso, (8,), lstm), _spec((stack, side, side), stack=stack))
    params = jax.jit(network.init)(jax.random.key(1))
    step_type = np.array(
        [[MID, FIRST, LAST], [LAST, MID, FIRST], [FIRST, MID, MID], [MID, MID, LAST], [MID, LAST, FIRST]]
    )
    frames = _bytes((stack - 1 + len(step_type), streams, side, side))
    before = jax.tree.map(lambda x: x + 0.5, network.initial_state(streams))
    output = jax.jit(network.unroll)(params, _trajectory(frames, step_type, before))
    assert output.logits.shape == (5, streams, 3) and output.value.shape == (5, streams)

    stacks = stack_frames(frames, jnp.asarray(step_type), stack)
    step, core_state = jax.jit(network.step), before
    for t in range(len(step_type)):
        now, core_state = step(params, stacks[t], jnp.asarray(step_type[t]), core_state)
        np.testing.assert_allclose(now.logits, output.logits[t], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(now.value, output.value[t], rtol=1e-4, atol=1e-6)
        assert jax.tree.map(jnp.shape, core_state) == jax.tree.map(jnp.shape, before)
    assert np.unique(output.value).size == output.value.size  # the comparison is not of constants


def test_lstm_forgets_at_first_and_only_there():
    network = make_network(NetworkConfig("mlp", (8,), 6), _spec((5,), np.float32))
    params = jax.jit(network.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    observation = jnp.asarray(rng.normal(size=(6, 1, 5)), jnp.float32)
    step_type = [[MID], [LAST], [FIRST], [MID], [MID], [LAST]]
    unroll, step = jax.jit(network.unroll), jax.jit(network.step)
    zeros = network.initial_state(1)
    others = jax.tree.map(lambda x: x + 1.0, zeros)

    def values(observation, core_state):
        return np.asarray(unroll(params, _trajectory(observation, step_type, core_state)).value[:, 0])

    base = values(observation, zeros)
    remembered = values(observation, others)
    assert (remembered[:2] != base[:2]).all()  # up to LAST, the state from before the unroll counts
    np.testing.assert_array_equal(remembered[2:], base[2:])  # from FIRST on it does not
    changed = values(observation.at[2].add(1.0), zeros)
    np.testing.assert_array_equal(changed[:2], base[:2])
    assert (changed[2:] != base[2:]).all()  # what is seen at FIRST itself is remembered

    fresh = step(params, observation[2], jnp.asarray([MID]), zeros)
    restarted = step(params, observation[2], jnp.asarray([FIRST]), others)
    jax.tree.map(np.testing.assert_array_equal, restarted, fresh)
    np.testing.assert_allclose(restarted[0].value[0], base[2], rtol=1e-5)


def test_lstm_equations():
    """One step against Hochreiter's LSTM written out in numpy (gates in the order i, g, f, o; f biased by 1)."""
    network = make_network(NetworkConfig("mlp", (), 2), _spec((3,), np.float32))
    params = jax.jit(network.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    x, hidden, cell = (rng.normal(size=(1, n)).astype(np.float32) for n in (3, 2, 2))
    _, (new_hidden, new_cell) = network.step(params, jnp.asarray(x), jnp.asarray([MID]), (hidden, cell))
    p = params["lstm"]
    gates = x @ p["w_input"] + hidden @ p["w_hidden"] + p["b"]
    i, g, f, o = (np.asarray(gates[:, 2 * k : 2 * k + 2]) for k in range(4))

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    expected_cell = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(g)
    np.testing.assert_allclose(new_cell, expected_cell, rtol=1e-5)
    np.testing.assert_allclose(new_hidden, sigmoid(o) * np.tanh(expected_cell), rtol=1e-5)


@pytest.mark.parametrize("torso", ["mlp", "impala_shallow", "impala_deep"])
def test_bytes_are_scaled_and_floats_are_not(torso):
    config, shape = NetworkConfig(torso, (8,)), (2, SIDE[torso], SIDE[torso])
    of_bytes = make_network(config, _spec(shape))
    of_floats = make_network(config, _spec(shape, np.float32))
    params = jax.jit(of_bytes.init)(jax.random.key(0))
    pixels, step_type = _bytes((3, *shape)), jnp.full(3, MID)
    from_bytes = jax.jit(of_bytes.step)(params, pixels, step_type, ())[0]
    from_floats = jax.jit(of_floats.step)(params, pixels.astype(jnp.float32) / 255, step_type, ())[0]
    np.testing.assert_allclose(from_bytes.logits, from_floats.logits, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(from_bytes.value, from_floats.value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("torso", "lstm"), [("mlp", 3), ("impala_shallow", 0), pytest.param("impala_deep", 0, marks=pytest.mark.slow)]
)
def test_float64_and_forward_over_reverse(torso, lstm):
    """Hessian times vector against central differences of the gradient."""
    with jax.enable_x64(True):
        shape = (1, SIDE[torso], SIDE[torso])
        network = make_network(NetworkConfig(torso, (4,), lstm), _spec(shape))
        params = jax.jit(network.init)(jax.random.key(3))
        assert {x.dtype for x in jax.tree.leaves((params, network.initial_state(2)))} == {np.dtype(np.float32)}
        rng = np.random.default_rng(4)
        params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
        vector = jax.tree.map(lambda x: rng.normal(size=x.shape), params)
        trajectory = _trajectory(_bytes((2, 2, *shape)), [[MID, MID], [FIRST, MID]], network.initial_state(2))

        def loss(params):
            output = network.unroll(params, trajectory)
            assert output.logits.dtype == output.value.dtype == jnp.float64
            return jnp.sum(jax.nn.log_softmax(output.logits)[..., 0] * jnp.sin(output.value))

        gradient_and_tangent = jax.jit(lambda params, vector: jax.jvp(jax.grad(loss), (params,), (vector,)))

        def gradient_at(distance):
            return gradient_and_tangent(jax.tree.map(lambda x, v: x + distance * v, params, vector), vector)[0]

        tangent = gradient_and_tangent(params, vector)[1]
        expected = jax.tree.map(lambda a, b: (a - b) / 2e-6, gradient_at(1e-6), gradient_at(-1e-6))
        for a, b in zip(jax.tree.leaves(tangent), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * max(1, np.abs(b).max()))
        assert max(np.abs(x).max() for x in jax.tree.leaves(tangent)) > 1e-3


@pytest.mark.parametrize(
    ("torso", "parameters"),
    [
        # 1,687,206 is the known size of DQN's network for 6 actions; the value head adds 512 + 1.
        ("nature", 1_687_206 + 513),
        # 8·8·4·16 + 4·4·16·32 + 9·9·32·256 weights, their biases, and the heads.
        ("impala_shallow", 4096 + 8192 + 663_552 + 16 + 32 + 256 + 7 * 257),
    ],
)
def test_sizes_of_the_published_networks(torso, parameters):
    network = make_network(NetworkConfig(torso), _spec((4, 84, 84), actions=6, stack=4))
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(shapes)) == parameters


def test_deep_network_has_fifteen_convolutions():
    network = make_network(NetworkConfig("impala_deep"), _spec((4, 84, 84), actions=6, stack=4))
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    kernels = [x.shape for x in jax.tree.leaves(shapes) if x.ndim == 4]
    assert len(kernels) == 15 and {shape[:2] for shape in kernels} == {(3, 3)}
    assert shapes["torso_out"]["w"].shape == (11 * 11 * 32, 256)


def test_initial_weights():
    network = make_network(NetworkConfig("impala_shallow", lstm=64), _spec((4, 36, 36), actions=18, stack=4))
    params = jax.jit(network.init)(jax.random.key(0))
    for module, leaves in params.items():
        assert not leaves["b"].any(), module
        for name in leaves.keys() - {"b"}:
            fan_in = 256 + 64 if module == "lstm" else np.prod(leaves[name].shape[:-1])
            chance = 4 / np.sqrt(2 * leaves[name].size)  # four deviations of a deviation
            # Cut at two deviations, a normal distribution has 0.8796 of its deviation left.
            assert np.std(leaves[name]) * np.sqrt(fan_in) == pytest.approx(0.8796, abs=chance), (module, name)
    output, _ = jax.jit(network.step)(params, _bytes((8, 4, 36, 36)), jnp.full(8, FIRST), network.initial_state(8))
    assert np.abs(jax.nn.softmax(output.logits) * 18 - 1).max() < 0.5  # starts nearly uniform


def test_linear_agent():
    network = make_network(NetworkConfig("mlp", ()), _spec((2, 3), np.float32))
    params = jax.jit(network.init)(jax.random.key(0))
    assert params.keys() == {"policy", "value"}
    x = jnp.arange(6.0).reshape(1, 2, 3)
    output, core_state = network.step(params, x, jnp.asarray([MID]), ())
    assert core_state == ()
    np.testing.assert_allclose(output.logits, x.reshape(1, 6) @ params["policy"]["w"], rtol=1e-5)
    np.testing.assert_allclose(output.value, (x.reshape(1, 6) @ params["value"]["w"])[:, 0], rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (NetworkConfig("impala_shalow"), (4, 84, 84), "network.torso is 'impala_shalow'.*did you mean impala_shallow"),
        (NetworkConfig(lstm=-1), (4, 84, 84), "network.lstm is -1"),
        (NetworkConfig("mlp", (8, 0)), (4,), r"network.hidden is \(8, 0\)"),
        (NetworkConfig("nature"), (10, 5), r"network.torso nature needs images .* of test have shape \(10, 5\).*mlp"),
        (NetworkConfig("nature"), (4, 35, 84), "at least 36x36"),
        (NetworkConfig("impala_shallow"), (4, 84, 19), "at least 20x20"),
        (NetworkConfig("impala_deep"), (7,), "network.torso impala_deep needs images"),
    ],
)
def test_bad_configs_are_refused_in_one_line(config, shape, message):
    with pytest.raises(ValueError, match=message) as error:
        check_network(config, _spec(shape))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=message):
        make_network(config, _spec(shape))
