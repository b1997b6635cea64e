import math

import numpy as np
import pytest

from actors.statistics import LifetimeStatistics
from agents.types import Provenance, Trajectory

F, M, L = 0, 1, 2


def trajectory(step_type, reward):
    """One stream: T+1 step types, T rewards."""
    reward = np.asarray(reward, np.float32)[:, None]
    return Trajectory(
        observation=None,
        step_type=np.asarray(step_type, np.int8)[:, None],
        action=None,
        behaviour_logits=None,
        reward=reward,
        discount=None,
        core_state=(),
        params_version=None,
    )


def provenance(actor=0, incarnation=0):
    return Provenance(actor, incarnation, 0, 0)


def test_an_episode_over_two_unrolls():
    statistics = LifetimeStatistics(1, frames_per_step=4)
    statistics.update(trajectory([F, M, M], [1, 2]), provenance(), lag=0)
    # The reward on the reset transition (here 100, which no environment hands out) does not count.
    statistics.update(trajectory([M, L, F, M], [3, 100, 5]), provenance(), lag=2)
    report = statistics.report()
    assert report == {
        "agent_steps": 4,
        "env_frames": 16,
        "episodes": 1,
        "episode_return_mean": 6.0,
        "episode_length_mean": 3.0,
        "reward_per_step": 11 / 4,
        "policy_lag": 1.0,
        "policy_lag_max": 2,
        "actor_restarts": 0,
    }
    statistics.update(trajectory([M, L, F], [-7, 0]), provenance(), lag=1)
    report = statistics.report()
    assert (report["episodes"], report["episode_return_mean"], report["episode_length_mean"]) == (2, 2.0, 2.5)
    assert (report["reward_per_step"], report["policy_lag"], report["policy_lag_max"]) == (-7.0, 1.0, 1)


def test_streams_are_kept_apart():
    both = trajectory([F, M, L], [1, 2])
    other = trajectory([F, L, F], [10, 0])
    whole = both._replace(
        step_type=np.concatenate([both.step_type, other.step_type], 1),
        reward=np.concatenate([both.reward, other.reward], 1),
    )
    statistics = LifetimeStatistics(1, 1)
    statistics.update(whole, provenance(), 0)
    report = statistics.report()
    assert (report["episodes"], report["episode_return_mean"], report["agent_steps"]) == (2, 6.5, 3)


def test_a_replaced_actor_drops_its_unfinished_episodes_only():
    statistics = LifetimeStatistics(2, 1)
    for actor in (0, 1):
        statistics.update(trajectory([F, M], [1]), provenance(actor), 0)
    statistics.restarted()
    statistics.update(trajectory([F, L], [10]), provenance(0, incarnation=1), 0)
    statistics.update(trajectory([M, L], [10]), provenance(1), 0)
    report = statistics.report()
    assert report["episode_return_mean"] == (10 + 11) / 2
    assert (report["episode_length_mean"], report["actor_restarts"], report["agent_steps"]) == (1.5, 1, 4)


def test_the_mean_is_of_the_last_hundred():
    statistics = LifetimeStatistics(1, 1)
    for reward in range(150):
        statistics.update(trajectory([F, L, F], [reward, 0]), provenance(), 0)
    report = statistics.report()
    assert report["episodes"] == 150
    assert report["episode_return_mean"] == np.mean(range(50, 150))


def test_nothing_yet_is_nan():
    report = LifetimeStatistics(1, 1).report()
    names = ("episode_return_mean", "episode_length_mean", "reward_per_step", "policy_lag", "policy_lag_max")
    assert all(math.isnan(report[name]) for name in names)
    assert report["agent_steps"] == report["episodes"] == 0


def test_state_goes_on():
    one, other = LifetimeStatistics(2, 4), LifetimeStatistics(2, 4)
    one.update(trajectory([F, M, M], [1, 2]), provenance(1, incarnation=3), lag=1)
    other.set_state(one.get_state())
    for statistics in (one, other):
        statistics.update(trajectory([M, L, F], [4, 0]), provenance(1, incarnation=3), lag=0)
    expected = one.report()
    assert other.report() == pytest.approx(expected)
    assert expected["episode_return_mean"] == 7 and expected["policy_lag"] == 0.5
