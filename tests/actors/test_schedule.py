import random

import pytest

from actors.schedule import Schedule
from agents.types import Provenance, Unroll


def unroll(actor, version, index=0):
    return Unroll(trajectory=None, provenance=Provenance(actor, 0, index, version))


class Actors:
    """Drives a schedule: starts what it allows, and finishes unrolls when told to."""

    def __init__(self, schedule, num_actors):
        self.schedule = schedule
        self.num_actors = num_actors
        self.under_way = {}
        self.made = [0] * num_actors

    def dispatch(self):
        for actor in range(self.num_actors):
            version = self.schedule.next_version(actor)
            if version is not None:
                assert actor not in self.under_way and version >= self.schedule.oldest_version()
                self.schedule.requested(actor, version)
                self.under_way[actor] = version

    def finish(self, actor):
        self.schedule.received(actor, unroll(actor, self.under_way.pop(actor), self.made[actor]))
        self.made[actor] += 1

    def fail(self, actor):
        self.schedule.failed(actor)
        del self.under_way[actor]


@pytest.mark.parametrize(("lag", "expected"), [("0", [0, 1, 2, 3, 4]), ("1", [0, 0, 1, 2, 3])])
@pytest.mark.parametrize("seed", range(5))
def test_fixed_lag_ties_each_batch_to_one_version(lag, expected, seed):
    chance = random.Random(seed)
    schedule = Schedule(3, lag, max_lag=1)
    actors = Actors(schedule, 3)
    schedule.start(0)
    for update, version in enumerate(expected):
        while (batch := schedule.take_batch()) is None:
            actors.dispatch()
            actor = chance.choice(list(actors.under_way))
            actors.fail(actor) if chance.random() < 0.2 else actors.finish(actor)
        assert [u.provenance for u in batch] == [Provenance(actor, 0, update, version) for actor in range(3)]
        schedule.publish(update + 1)


def test_lag_0_waits_and_lag_1_overlaps():
    for lag, under_way in [("0", {}), ("1", {0: 0})]:
        schedule = Schedule(1, lag, max_lag=1)
        actors = Actors(schedule, 1)
        schedule.start(0)
        actors.dispatch()
        actors.finish(0)
        actors.dispatch()  # before version 1 is there
        assert actors.under_way == under_way


def test_a_later_start_counts_from_its_version():
    schedule = Schedule(1, "1", max_lag=1)
    actors = Actors(schedule, 1)
    schedule.start(10)
    versions = []
    for update in range(10, 13):
        actors.dispatch()
        actors.finish(0)
        [got] = schedule.take_batch()
        versions.append(got.provenance.params_version)
        schedule.publish(update + 1)
    assert versions == [10, 10, 11]


@pytest.mark.parametrize("max_lag", [1, 2, 5])
@pytest.mark.parametrize("seed", range(8))
def test_free_lag_is_bounded_and_drops_nothing(max_lag, seed):
    """Actors of very different speed, some failures: no unroll older than the bound, none lost, FIFO for each actor."""
    chance = random.Random(seed)
    schedule = Schedule(4, "free", max_lag)
    actors = Actors(schedule, 4)
    schedule.start(0)
    delivered = {actor: [] for actor in range(4)}
    lags, reached = [], set()
    for update in range(60):
        while True:
            actors.dispatch()
            if (batch := schedule.take_batch()) is not None:
                break
            assert actors.under_way, "nobody can go on"
            speeds = [50.0**-actor for actor in actors.under_way]
            actor = chance.choices(list(actors.under_way), speeds)[0]
            actors.fail(actor) if chance.random() < 0.05 else actors.finish(actor)
        assert len(batch) == 4
        for got in batch:
            delivered[got.provenance.actor_index].append(got.provenance.unroll_index)
            lags.append(update - got.provenance.params_version)
        reached.update(lags)
        schedule.publish(update + 1)
    assert all(indices == list(range(len(indices))) for indices in delivered.values())
    assert sum(map(len, delivered.values())) == 4 * 60
    assert min(lags) == 0 and max(lags) == max_lag, "the bound is kept, and the laggard reaches it"
    assert len(delivered[0]) > 2 * len(delivered[3]), "fast actors give more"


def test_free_lag_with_a_batch_fetched_ahead_does_not_stall():
    schedule = Schedule(2, "free", 1)
    actors = Actors(schedule, 2)
    schedule.start(0)
    for batch in range(5):
        if batch >= 2:
            schedule.publish(batch - 1)
        for _ in range(4):
            actors.dispatch()
            for actor in list(actors.under_way):
                actors.finish(actor)
        got = schedule.take_batch()
        assert all(batch - u.provenance.params_version <= 1 for u in got)


def test_state_goes_on():
    for lag in ("0", "1", "free"):
        schedule = Schedule(2, lag, 3)
        actors = Actors(schedule, 2)
        schedule.start(0)
        actors.dispatch()
        actors.finish(1)
        actors.finish(0)
        other = Schedule(2, lag, 3)
        other.set_state(schedule.get_state())
        assert other.take_batch() == schedule.take_batch()
        for one in (schedule, other):
            one.publish(1)
        assert [other.next_version(actor) for actor in (0, 1)] == [schedule.next_version(actor) for actor in (0, 1)]
        assert other.batch_index == 1


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="lag is '2'"):
        Schedule(1, "2", 1)
    with pytest.raises(ValueError, match=r"pool.max_lag is 0: .* at least 1"):
        Schedule(1, "free", 0)
    schedule = Schedule(1, "0", 1)
    schedule.start(0)
    with pytest.raises(ValueError, match="version 2 was published after 0"):
        schedule.publish(2)
