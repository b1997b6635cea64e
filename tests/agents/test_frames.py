import envpool
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.frames import stack_frames
from agents.types import FIRST, LAST, MID


@pytest.fixture(scope="module")
def lived():
    """EnvPool's own stacks [60, 4, 4, 84, 84] and step types [60, 4]; streams 0, 1 and 2, 3 reset at other times."""
    return tuple(np.concatenate(parts, axis=1) for parts in zip(_live(5), _live(9), strict=True))


def _live(max_episode_steps):
    stacks, step_types = [], []
    rng = np.random.default_rng(max_episode_steps)
    env = envpool.make_dm("Breakout-v5", num_envs=2, seed=5, stack_num=4, max_episode_steps=max_episode_steps)
    time_step = env.reset()
    for _ in range(60):
        stacks.append(np.array(time_step.observation.obs))
        step_types.append(np.array(time_step.step_type, np.int8))
        time_step = env.step(rng.integers(0, 4, 2).astype(np.int32))
    env.close()
    return np.stack(stacks), np.stack(step_types)


def _single_frames(stacks, start, steps):
    """What a recorder keeps: the older frames of the first stack, then the newest frame of each stack."""
    older = np.moveaxis(stacks[start, :, :-1], 1, 0)
    return np.concatenate([older, stacks[start : start + steps, :, -1]])


@pytest.mark.parametrize("steps", [1, 2, 3, 21])
def test_equals_envpool_bit_for_bit(lived, steps):
    stacks, step_types = lived
    assert (step_types[1:] == FIRST).sum() >= 4 * 5  # several resets in every stream
    stack = jax.jit(stack_frames, static_argnums=2)
    for start in range(len(stacks) - steps + 1):
        rebuilt = stack(_single_frames(stacks, start, steps), step_types[start : start + steps], 4)
        assert rebuilt.dtype == np.uint8
        np.testing.assert_array_equal(rebuilt, stacks[start : start + steps])


def test_restart_hides_older_frames():
    frames = jnp.arange(2 + 5, dtype=jnp.uint8).reshape(7, 1, 1, 1)  # frame i was seen at time i - 2
    step_type = jnp.asarray([MID, LAST, FIRST, MID, MID])[:, None]
    stacks = stack_frames(frames, step_type, 3)[:, 0, :, 0, 0]
    np.testing.assert_array_equal(stacks, [[0, 1, 2], [1, 2, 3], [4, 4, 4], [4, 4, 5], [4, 5, 6]])


def test_stack_of_one_is_the_frames():
    frames = jnp.arange(3, dtype=jnp.uint8).reshape(3, 1, 1, 1)
    stacks = stack_frames(frames, jnp.asarray([[FIRST], [MID], [LAST]]), 1)
    np.testing.assert_array_equal(stacks[:, :, 0], frames)


def test_wrong_number_of_frames():
    with pytest.raises(ValueError, match="5 frames for 3 steps; a stack of 4 needs 6"):
        stack_frames(jnp.zeros((5, 1, 2, 2), jnp.uint8), jnp.zeros((3, 1), jnp.int8), 4)
