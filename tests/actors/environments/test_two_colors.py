import jax
import numpy as np
import pytest

from actors.environments.jax_adapter import stream_keys, vmap_environment
from actors.environments.two_colors import TwoColors
from agents.types import FIRST, MID

MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])


def decode(observation):
    """[..., 30] -> cells [..., 3, 2] of agent, object 0 and object 1; checks that they are one-hot."""
    one_hot = np.asarray(observation).reshape(*np.shape(observation)[:-1], 3, 2, 5)
    assert (one_hot.sum(-1) == 1).all() and np.isin(one_hot, (0, 1)).all()
    return one_hot.argmax(-1)


def lives(switch_steps, streams, steps, seed=0):
    """Random play: observations [T+1, B, 30], actions [T, B], rewards [T, B]."""
    reset, step = vmap_environment(TwoColors(switch_steps))
    actions = np.random.default_rng(seed).integers(4, size=(steps, streams), dtype=np.int32)

    @jax.jit
    def run(keys):
        state, first = reset(keys)
        _, later = jax.lax.scan(step, state, actions)
        return jax.tree.map(lambda a, b: jax.numpy.concatenate([a[None], b]), first, later)

    time_steps = jax.tree.map(np.asarray, run(stream_keys(range(streams))))
    assert (time_steps.step_type[0] == FIRST).all() and (time_steps.step_type[1:] == MID).all()
    assert (time_steps.discount == 1).all() and (time_steps.reward[0] == 0).all()
    return time_steps.observation, actions, time_steps.reward[1:]


def test_moves_contacts_and_swaps():
    """Every transition of many random lives against the rules, written down a second time in numpy."""
    switch_steps, steps = 37, 200
    observation, actions, rewards = lives(switch_steps, streams=64, steps=steps)
    cells = decode(observation)
    agent, objects = cells[:, :, 0], cells[:, :, 1:]
    np.testing.assert_array_equal(agent[1:], np.clip(agent[:-1] + MOVES[actions], 0, 4))
    touched = (objects[:-1] == agent[1:, :, None]).all(-1)  # [T, B, 2]: the agent's new cell held the object
    sign = np.where(np.arange(steps) // switch_steps % 2 == 0, 1, -1)[:, None]
    expected = np.where(touched[..., 0], sign, np.where(touched[..., 1], -sign, np.float32(-0.04)))
    np.testing.assert_array_equal(rewards, expected.astype(np.float32))
    np.testing.assert_array_equal(objects[1:][~touched], objects[:-1][~touched])
    assert not (objects == agent[:, :, None]).all(-1).any() and not (objects[:, :, 0] == objects[:, :, 1]).all(-1).any()
    # All that could happen has: contacts with each object in each phase, and moves into walls.
    for phase in (sign == 1, sign == -1):
        assert (touched & phase[..., None]).sum((0, 1)).min() > 50
    assert (agent[1:] == agent[:-1]).all(-1).sum() > 50


def test_the_swap_comes_exactly_at_the_switch():
    environment = TwoColors(switch_steps=3)
    state, _ = environment.reset(jax.random.PRNGKey(0))
    step = jax.jit(environment.step)
    rewards = []
    for _ in range(13):
        # Object 0 right of the agent, object 1 out of the way: each move to the right touches object 0.
        state = state._replace(agent=np.int32(0), objects=np.array([1, 24], np.int32))
        state, time_step = step(state, np.int32(3))
        rewards.append(float(time_step.reward))
    assert rewards == [1, 1, 1, -1, -1, -1, 1, 1, 1, -1, -1, -1, 1]


def test_respawn_and_birth_are_uniform_over_free_cells():
    streams = 23 * 200
    environment = TwoColors()
    reset, step = vmap_environment(environment)
    state, first = jax.jit(reset)(stream_keys(range(streams)))
    cells = decode(first.observation) @ [5, 1]
    for cell in cells.T:
        assert (np.bincount(cell, minlength=25) > 120).all()  # 184 expected, standard deviation 13
    assert all(len(set(row)) == 3 for row in cells)
    state = state._replace(agent=np.full(streams, 12, np.int32), objects=np.tile(np.int32([13, 3]), (streams, 1)))
    _, time_step = jax.jit(step)(state, np.full(streams, 3, np.int32))
    respawned = decode(time_step.observation)[:, 1] @ [5, 1]
    counts = np.bincount(respawned, minlength=25)
    assert counts[13] == 0 and counts[3] == 0
    assert (np.delete(counts, [13, 3]) > 130).all()  # 200 expected, standard deviation 14


@pytest.mark.parametrize("switch_steps", [0, -1, 2**30])
def test_bad_switch_steps(switch_steps):
    with pytest.raises(ValueError, match=r"environment.switch_steps: .* is not in 1 to"):
        TwoColors(switch_steps)
