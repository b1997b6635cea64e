import jax
import numpy as np
import pytest

from actors.environments.catch import Catch
from actors.environments.jax_adapter import BatchedJaxEnvironment, stream_keys, vmap_environment
from actors.environments.two_colors import TwoColors


@pytest.mark.parametrize("environment", [Catch(), TwoColors(switch_steps=10)], ids=lambda e: e.spec.name)
def test_in_graph_equals_batched_bit_for_bit(environment):
    seeds = [3, 1, 4, 2**31 - 1]
    actions = np.random.default_rng(0).integers(environment.spec.num_actions, size=(40, 4), dtype=np.int32)
    reset, step = vmap_environment(environment)

    @jax.jit
    def unroll(keys):
        state, first = reset(keys)
        return first, jax.lax.scan(step, state, actions)[1]

    first, later = unroll(stream_keys(seeds))
    batched = BatchedJaxEnvironment(environment, seeds)
    for got, want in zip(batched.reset(), first, strict=True):
        assert isinstance(got, np.ndarray)
        np.testing.assert_array_equal(got, want)
    for t, action in enumerate(actions):
        for got, want in zip(batched.step(action), later, strict=True):
            np.testing.assert_array_equal(got, want[t])


def test_state_is_plain_numpy():
    environment = BatchedJaxEnvironment(Catch(), [1, 2])
    environment.reset()
    state = environment.get_state()
    assert isinstance(state, tuple) and all(type(leaf) is np.ndarray for leaf in state)


def test_stream_keys_are_those_of_jax():
    seeds = [0, 7, 2**31 - 1]
    np.testing.assert_array_equal(stream_keys(seeds), [np.asarray(jax.random.PRNGKey(seed)) for seed in seeds])
