import itertools

import jax
import numpy as np

from actors.environments.catch import Catch
from actors.environments.jax_adapter import stream_keys, vmap_environment
from agents.types import FIRST, LAST, MID


def board(ball_row, ball_column, paddle_column):
    """The observation, drawn without the environment."""
    cells = np.zeros((10, 5), np.float32)
    cells[ball_row, ball_column] = 1
    cells[9, paddle_column] = 1
    return cells


def test_every_sequence_of_actions_from_every_column():
    """All 5 * 3^9 episodes against the rules, written down a second time in numpy."""
    environment = Catch()
    state, _ = environment.reset(jax.random.PRNGKey(0))
    sequences = np.array(list(itertools.product(range(3), repeat=9)), np.int32)
    step = jax.jit(jax.vmap(environment.step))
    for column in range(5):
        batch = jax.tree.map(lambda x: np.broadcast_to(x, (len(sequences), *x.shape)), state)
        batch = batch._replace(ball_column=np.full(len(sequences), column, np.int32))
        paddle = np.full(len(sequences), 2)
        for t in range(9):
            batch, time_step = step(batch, sequences[:, t])
            paddle = np.clip(paddle + sequences[:, t] - 1, 0, 4)
            over = t == 8
            reward = np.where(paddle == column, 1, -1) if over else np.zeros(len(sequences))
            np.testing.assert_array_equal(time_step.step_type, LAST if over else MID)
            np.testing.assert_array_equal(time_step.discount, 0 if over else 1)
            np.testing.assert_array_equal(time_step.reward, reward)
            expected = np.stack([board(t + 1, column, place) for place in range(5)])[paddle]
            np.testing.assert_array_equal(time_step.observation, expected)


def test_balls_start_in_every_column_in_every_episode():
    reset, step = vmap_environment(Catch())
    state, time_step = jax.jit(reset)(stream_keys(range(500)))
    step = jax.jit(step)
    for _ in range(3):
        assert (np.asarray(time_step.step_type) == FIRST).all()
        columns = np.asarray(time_step.observation)[:, 0].argmax(-1)
        assert (np.bincount(columns, minlength=5) > 70).all()  # 100 expected, standard deviation 9
        expected = np.stack([board(0, column, 2) for column in range(5)])[columns]
        np.testing.assert_array_equal(time_step.observation, expected)
        previous = columns
        for _ in range(10):
            state, time_step = step(state, np.zeros(500, np.int32))
    columns = np.asarray(time_step.observation)[:, 0].argmax(-1)
    assert 0.1 < (columns == previous).mean() < 0.3  # 0.2 expected: episodes of a stream are independent
