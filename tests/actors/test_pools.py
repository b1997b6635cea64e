"""What both runtimes must do. The reference is the schedule in words, acted by plain actors one after another."""

import jax
import numpy as np
import pytest

from agents.types import FIRST, Trajectory
from learner.checkpoint import Checkpointer

UPDATES = 3
RUNTIMES = [pytest.param("threads"), pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])]


def reference(kit, maker, versions, lag: int, batches: int) -> list:
    actors = [maker(index, 0) for index in range(2)]
    expected = []
    for k in range(batches):
        one, other = (actor.unroll(versions(max(k - lag, 0))).trajectory for actor in actors)
        streams = Trajectory(*([1] * 6), core_state=jax.tree.map(lambda _: 0, one.core_state), params_version=0)
        expected.append(jax.tree.map(lambda axis, *parts: np.concatenate(parts, axis), streams, one, other))
    for actor in actors:
        actor.close()
    return expected


@pytest.mark.parametrize("lag", ["0", "1"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_batches_and_restored_batches_are_those_of_the_schedule(kit, runtime, lag, tmp_path):
    """2N updates equal N, save, restore in a new pool, N: bit for bit. And the saved pool goes on unharmed."""
    versions = kit.Versions()
    expected = reference(kit, kit.actor_maker(), versions, int(lag), 2 * UPDATES)
    pool = kit.make_pool(runtime, lag)
    pool.start(versions(0))
    kit.assert_same(expected[:UPDATES], kit.run(pool, versions, 0, UPDATES))
    checkpoint = Checkpointer(tmp_path)
    assert checkpoint.save(UPDATES, pool.state(timeout=60), blocking=True)
    kit.assert_same(expected[UPDATES:], kit.run(pool, versions, UPDATES, UPDATES))
    statistics = pool.statistics()
    pool.stop(10)

    restored = kit.make_pool(runtime, lag)
    restored.restore(checkpoint.restore()[1])
    checkpoint.close()
    restored.start(versions(UPDATES))
    kit.assert_same(expected[UPDATES:], kit.run(restored, versions, UPDATES, UPDATES))
    assert restored.statistics() == statistics
    assert statistics["policy_lag_max"] == int(lag) and statistics["episodes"] > 0
    assert pool.events() == restored.events() == []
    restored.stop(10)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_atari_with_a_cnn_has_the_same_bits_in_both_runtimes(kit, runtime):
    make_agent = kit.small_agent("impala_shallow", lstm=0)
    maker = kit.actor_maker("pong", make_agent, num_streams=2, unroll_length=4)
    versions = kit.Versions("pong", make_agent)
    expected = reference(kit, maker, versions, 1, UPDATES)
    pool = kit.make_pool(runtime, "1", maker)
    pool.start(versions(0))
    kit.assert_same(expected, kit.run(pool, versions, 0, UPDATES))
    state = pool.state(timeout=60)
    pool.stop(10)
    assert state["actors"] == (None, None)
    if runtime == "ray":
        return  # what follows is no different there, and starting processes takes long
    restored = kit.make_pool(runtime, "1", maker)
    restored.restore(state)
    assert restored.events() == ["2 of 2 actors start new episodes: their environments cannot be restored"]
    restored.start(versions(UPDATES))
    starts = np.stack([batch.step_type[0] == FIRST for batch in kit.run(restored, versions, UPDATES, 3)])
    restored.stop(10)
    assert not starts[0].any(), "the unrolls that were saved with the state come first"
    assert starts.sum(0).tolist() == [1] * 4, "then come new episodes"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_free_lag_delivers_within_the_bound(kit, runtime):
    versions = kit.Versions()
    config = kit.ActorPoolConfig(max_lag=2)
    pool = kit.make_pool(runtime, "free", config=config)
    pool.start(versions(0))
    batches = kit.run(pool, versions, 0, 8)
    report = pool.statistics()
    pool.stop(10)
    lags = [update - version for update, batch in enumerate(batches) for version in batch.params_version]
    assert min(lags) >= 0 and max(lags) <= 2
    assert report["policy_lag_max"] == max(lags)
    assert report["policy_lag"] == pytest.approx(np.mean(lags))


def test_get_gives_up_in_time(kit):
    versions = kit.Versions()
    pool = kit.make_pool("threads", "0")
    pool.start(versions(0))
    pool.get(timeout=60)
    with pytest.raises(TimeoutError, match=r"no batch within 0.3 s"):
        pool.get(timeout=0.3)
    pool.publish(versions(1))
    pool.get(timeout=60)
    pool.stop(10)


def test_a_state_that_does_not_fit_is_refused(kit):
    versions = kit.Versions()
    pool = kit.make_pool("threads", "1")
    pool.start(versions(0))
    state = pool.state(timeout=60)
    pool.stop(10)
    with pytest.raises(ValueError, match="the state is one of 2 actors, this pool has 1"):
        kit.make_pool("threads", "1", num_actors=1).restore(state)
    other = kit.make_pool("threads", "1")
    other.restore(state)
    with pytest.raises(ValueError, match="taken at version 0, but it starts with version 5"):
        other.start(versions(5))
