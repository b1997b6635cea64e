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


def test_rewards_of_two_balls_come_with_the_second():
    """500 streams whose paddle never moves: it starts in the middle of each episode, not of each ball."""
    reset, step = vmap_environment(Catch(runs=2))
    state, _ = jax.jit(reset)(stream_keys(range(500)))
    step, columns = jax.jit(step), []
    for t in range(1, 20):  # nine steps down, one to the next ball, nine steps down
        before = state
        state, time_step = step(state, np.full(500, 1, np.int32))
        if t in (1, 11):
            columns.append(np.asarray(before.ball_column))
        rewards = sum(np.where(column == 2, 1, -1) for column in columns) if t == 19 else np.zeros(500)
        np.testing.assert_array_equal(time_step.reward, rewards)
        np.testing.assert_array_equal(time_step.step_type, LAST if t == 19 else MID)
    assert len(columns) == 2 and 0.1 < (columns[0] == columns[1]).mean() < 0.3  # 0.2 expected
    _, time_step = step(state, np.full(500, 1, np.int32))
    np.testing.assert_array_equal(time_step.step_type, FIRST)


def test_left_and_right_swap_on_the_streams_own_clock():
    environment = Catch(switch_steps=25)
    state, _ = environment.reset(jax.random.PRNGKey(0))
    step, paddle = jax.jit(environment.step), 2
    for t in range(120):
        was_last = int(state.ball_row) == 9
        state, _ = step(state, np.int32(0 if t % 3 else 2))
        move = (-1 if t % 3 else 1) * (1 if t // 25 % 2 == 0 else -1)
        paddle = 2 if was_last else int(np.clip(paddle + move, 0, 4))
        assert state.paddle_column == paddle, t


def test_a_task_is_what_the_actions_do():
    environment = Catch()
    tasks = [tuple(np.asarray(environment.sample_task(jax.random.PRNGKey(i))).tolist()) for i in range(60)]
    assert set(tasks) == set(itertools.permutations((-1, 0, 1)))
    key, task_key = jax.random.PRNGKey(0), jax.random.PRNGKey(3)
    plain, (state, _) = environment.reset(key)[0], environment.reset(key, task_key)
    assert plain.moves.tolist() == [-1, 0, 1] and state.ball_column == plain.ball_column
    step, paddle = jax.jit(environment.step), 2
    for t in range(45):  # through four resets: the task stays
        was_last = int(state.ball_row) == 9
        state, _ = step(state, np.int32(t % 3))
        paddle = 2 if was_last else int(np.clip(paddle + tasks[3][t % 3], 0, 4))
        assert state.paddle_column == paddle, t
