"""EnvPool's real emulators: the semantics that the adapter decides."""

import envpool
import numpy as np
import pytest
from envpool.atari.registration import atari_game_list

from actors.environments.atari import Atari, list_games, task_id
from actors.environments.atari_games import FULL_ACTIONS, MINIMAL_ACTIONS
from agents.types import FIRST, LAST, MID


def play(environment, steps, seed=0):
    """Random play; arrays [T+1, B, ...]."""
    rng = np.random.default_rng(seed)
    time_steps = [environment.reset()]
    for _ in range(steps):
        time_steps.append(environment.step(rng.integers(environment.spec.num_actions, size=environment.num_streams)))
    environment.close()
    return [np.stack(arrays) for arrays in zip(*time_steps, strict=True)]


def engine_actions(games, full):
    return {game: int(envpool.make_spec(task_id(game), full_action_space=full).action_space.n) for game in games}


def test_the_table_of_games_is_envpools():
    assert list_games() == sorted(atari_game_list)
    games = ("pong", "ms_pacman", "tic_tac_toe_3d", "skiing")
    assert engine_actions(games, full=False) == {game: MINIMAL_ACTIONS[game] for game in games}
    assert engine_actions(games, full=True) == {game: FULL_ACTIONS[game] for game in games}


@pytest.mark.slow
def test_action_sets_of_many_games():
    assert set(MINIMAL_ACTIONS) == set(list_games())
    games = list_games()[::3]  # EnvPool takes a quarter of a second to make each
    assert engine_actions(games, full=False) == {game: MINIMAL_ACTIONS[game] for game in games}
    exceptions = [game for game, count in FULL_ACTIONS.items() if count != 18]
    games = exceptions + list_games()[::8]
    assert engine_actions(games, full=True) == {game: FULL_ACTIONS[game] for game in games}


def test_a_game_over_is_a_termination():
    """One random game of Pong, to the end at 21 points."""
    environment = Atari("pong", [1])
    rng = np.random.default_rng(0)
    time_step, score, steps = environment.reset(), 0.0, 0
    while time_step.step_type[0] != LAST:
        assert time_step.discount[0] == 1 and steps < 2000
        time_step = environment.step(rng.integers(18, size=1))
        score, steps = score + float(time_step.reward[0]), steps + 1
    assert time_step.discount[0] == 0
    assert -21 <= score <= -17 and steps > 700
    time_step = environment.step(rng.integers(18, size=1))
    assert (time_step.step_type[0], time_step.reward[0], time_step.discount[0]) == (FIRST, 0, 1)
    environment.close()


def test_losing_a_life_ends_nothing():
    """A game of Assault beside a bare EnvPool, which tells the lives."""
    bare = envpool.make_dm("Assault-v5", num_envs=1, seed=[3], noop_max=30, use_fire_reset=False)
    ours = Atari("assault", [3], protocol="noop")
    rng = np.random.default_rng(0)
    theirs, mine = bare.reset(), ours.reset()
    lives, losses, ends = [], 0, 0
    for _ in range(1500):
        np.testing.assert_array_equal(mine.observation, theirs.observation.obs)
        lives.append(int(theirs.observation.lives[0]))
        losses += len(lives) > 1 and lives[-1] < lives[-2]
        if mine.step_type[0] == LAST:
            ends += 1
            assert mine.discount[0] == 0 and lives[-1] == 0
        else:
            assert mine.discount[0] == 1
        action = rng.integers(ours.spec.num_actions, size=1, dtype=np.int32)
        theirs, mine = bare.step(action), ours.step(action)
    assert ends >= 1 and losses > ends


@pytest.mark.parametrize("protocol", ["sticky", "noop"])
def test_truncation_has_discount_1_after_max_episode_frames(protocol):
    step_type, reward, discount, observation = play(
        Atari("skiing", [1, 2], protocol, max_episode_frames=4 * 10 + 3), 25
    )
    for t in (10, 21):  # ten agent steps, then one transition that only resets
        assert (step_type[t] == LAST).all() and (discount[t] == 1).all()
        assert (step_type[t + 1] == FIRST).all() and (reward[t + 1] == 0).all() and (reward[t] != 0).any()
        assert (observation[t] != observation[t + 1]).any()  # LAST shows the end of its own episode
    assert (step_type[1:10] == MID).all() and (discount == 1).all()


def test_an_episode_shorter_than_a_step_is_refused():
    with pytest.raises(ValueError, match=r"environment.max_episode_frames: 3 is less than one agent step"):
        Atari("pong", [1], max_episode_frames=3)


def test_rewards_are_raw():
    _, reward, _, _ = play(Atari("space_invaders", range(4), protocol="noop"), 150)
    assert reward.max() >= 5 and (reward % 5 == 0).all()


@pytest.mark.parametrize("protocol", ["sticky", "noop"])
def test_stacks_are_the_last_single_frames(protocol):
    """The recorder keeps single frames: each stack must be the previous one and a new frame, or one frame 4 times."""
    step_type, _, _, observation = play(Atari("breakout", [1, 2, 3], protocol, max_episode_frames=4 * 8), 20)
    first = step_type == FIRST
    assert first.sum() == 3 * 3
    np.testing.assert_array_equal(observation[first], np.repeat(observation[first][:, -1:], 4, axis=1))
    goes_on = ~first[1:]
    np.testing.assert_array_equal(observation[1:, :, :-1][goes_on], observation[:-1, :, 1:][goes_on])


def same_actions(game, protocol, seeds, steps=60):
    """One sequence of actions for every stream; observations [T+1, B, 4, 84, 84]."""
    environment = Atari(game, seeds, protocol)
    rng = np.random.default_rng(0)
    observations = [environment.reset().observation]
    for _ in range(steps):
        action = np.full(len(seeds), rng.integers(environment.spec.num_actions))
        observations.append(environment.step(action).observation)
    environment.close()
    return np.stack(observations)


def test_sticky_is_random_through_actions_alone():
    observations = same_actions("breakout", "sticky", [1, 2, 3])
    assert (observations[0, 0] == observations[0]).all()  # every episode starts from the same frame
    assert (observations[:, 0] != observations[:, 1]).any() and (observations[:, 0] != observations[:, 2]).any()


def test_noop_is_random_through_the_start_alone():
    """The same actions from different numbers of no-ops make different games."""
    observations = same_actions("pong", "noop", range(12))
    games = {stream.tobytes() for stream in observations.swapaxes(0, 1)}
    assert 7 <= len(games) <= 12  # 10 expected if the 30 numbers are equally likely


def test_neither_protocol_presses_fire():
    """Breakout without FIRE serves no ball: nothing moves while the agent does nothing."""
    for protocol in ("sticky", "noop"):
        environment = Atari("breakout", [5], protocol)
        start = environment.reset().observation
        for _ in range(20):
            np.testing.assert_array_equal(environment.step(np.zeros(1, np.int32)).observation, start, err_msg=protocol)
        environment.close()


def test_threads_change_nothing():
    one, two = (play(Atari("pong", range(4), threads=threads), 40) for threads in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_render_shows_every_screen_in_colour():
    environment = Atari("pong", [1, 2, 3], render=True)
    environment.reset()
    for _ in range(60):
        environment.step(np.array([2, 3, 0]))
    frames = environment.render()
    environment.close()
    assert frames.shape == (3, 210, 160, 3) and frames.dtype == np.uint8
    assert (frames[0] != frames[1]).any()
    assert (frames[..., 0] != frames[..., 1]).any()
