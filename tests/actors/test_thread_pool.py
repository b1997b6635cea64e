import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import pytest

from actors.actor import Actor
from actors.pool import ActorFailure
from actors.unroll import HostRecorder
from agents.types import FIRST, VersionedParams


class Trouble:
    """Calls `what` at the given steps (counted over all incarnations) of one actor's environment."""

    def __init__(self, what, steps):
        self.what, self.steps, self.count = what, steps, 0

    def __call__(self):
        self.count += 1
        if self.count in self.steps:
            self.what()


def raise_error():
    raise OSError("the emulator is gone\nsecond line")


@pytest.fixture
def echo_pool(kit):
    """(lag, config, trouble of actor 1) -> started pool with 2 actors of 2 streams and T=4, and its parameters."""
    made = []

    def make(lag, config, trouble):
        agent = kit.small_agent()(kit.EchoEnvironment().spec)
        environments = []

        def make_actor(actor_index, incarnation):
            environment = kit.EchoEnvironment(2, trouble if actor_index == 1 else lambda: None)
            environments.append(environment)
            return Actor(HostRecorder(agent, environment, 4), 0, actor_index, incarnation)

        pool = kit.make_pool("threads", lag, make_actor, config=config)
        made.append(pool)
        params = agent.init(jax.random.PRNGKey(0))
        pool.start(VersionedParams(0, params))
        pool.environments = environments
        return pool, lambda version: VersionedParams(version, params)

    yield make
    for pool in made:
        pool.stop(10)


@pytest.mark.parametrize("lag", ["0", "1"])
def test_an_actor_that_raises_is_replaced_and_acts_the_same_version(kit, echo_pool, lag):
    pool, versions = echo_pool(lag, kit.ActorPoolConfig(), Trouble(raise_error, steps=[6]))  # within the second unroll
    batches = kit.run(pool, versions, 0, 4)
    assert [batch.params_version.tolist() for batch in batches] == [[max(k - int(lag), 0)] * 4 for k in range(4)]
    # Actor 0's streams go on, actor 1's begin again.
    assert batches[1].observation[0, :, 0].tolist() == [4, 4, 0, 0]
    assert batches[1].step_type[0, 2:].tolist() == [FIRST, FIRST]
    assert pool.events() == ["actor 1 lost (OSError: the emulator is gone): replaced by incarnation 1"]
    assert pool.events() == []
    assert pool.statistics()["actor_restarts"] == 1
    kit.wait_for(lambda: sum(environment.closed for environment in pool.environments) == 1)


def test_a_hung_actor_is_replaced(kit, echo_pool):
    release = threading.Event()
    config = kit.ActorPoolConfig(hang_seconds=0.5)
    pool, versions = echo_pool("1", config, Trouble(lambda: release.wait(30), steps=[6]))
    batches = kit.run(pool, versions, 0, 3)
    release.set()
    assert batches[1].observation[0, :, 0].tolist() == [4, 4, 0, 0]
    assert pool.events() == ["actor 1 lost (TimeoutError: no unroll within 0.5 s): replaced by incarnation 1"]


def test_an_actor_is_not_lost_while_the_learner_computes_its_parameters(kit, echo_pool):
    pool, versions = echo_pool("0", kit.ActorPoolConfig(hang_seconds=0.5), lambda: None)
    kit.run(pool, versions, 0, 2)  # compiles what actors do
    pool.get(timeout=30)

    @jax.jit
    def slow(params):
        zero = jax.lax.fori_loop(0, 100_000, lambda _, x: jnp.tanh(x @ x), jnp.zeros((128, 128)))[0, 0]
        return jax.tree.map(lambda leaf: leaf + zero, params)

    params = versions(3).params
    slow.lower(params).compile()
    start = time.monotonic()
    params = slow(params)
    pool.publish(VersionedParams(3, params))
    assert pool.get(timeout=60).params_version.tolist() == [3] * 4
    assert time.monotonic() - start > 1, "the parameters came too soon to tell anything"
    assert pool.events() == []


def test_a_batch_without_an_update_leaves_no_state(kit, echo_pool):
    pool, versions = echo_pool("1", kit.ActorPoolConfig(), lambda: None)
    kit.run(pool, versions, 0, 2)
    pool.get(timeout=30)
    with pytest.raises(RuntimeError, match="the last batch had no update"):
        pool.state(timeout=30)
    pool.publish(versions(3))
    assert pool.state(timeout=30)["schedule"]["batch_index"] == 3


def test_an_error_that_repeats_at_once_ends_the_pool(kit, echo_pool):
    pool, versions = echo_pool("0", kit.ActorPoolConfig(), Trouble(raise_error, steps=range(1000)))
    with pytest.raises(ActorFailure, match=r"actor 1 failed 3 times in a row .*: OSError: the emulator is gone$"):
        kit.run(pool, versions, 0, 1)
    # The state can still be saved: of actor 0 there is an unroll, of actor 1 nothing.
    state = pool.state(timeout=10)
    assert [len(queue) for queue in state["schedule"]["ready"]] == [1, 0]


def test_too_many_failures_within_an_hour_end_the_pool(kit, echo_pool):
    config = kit.ActorPoolConfig(max_failures=2)
    pool, versions = echo_pool("0", config, Trouble(raise_error, steps=[6, 12, 18, 24, 30]))
    with pytest.raises(ActorFailure, match=r"3 actors failed within an hour.*max-failures 2.*actor 1: OSError"):
        kit.run(pool, versions, 0, 20)
    assert len(pool.events()) == 3


def test_free_lag_waits_for_a_slow_actor_and_loses_nothing(kit, echo_pool):
    turn = threading.Semaphore(0)
    pool, versions = echo_pool("free", kit.ActorPoolConfig(max_lag=3), lambda: turn.acquire(timeout=30))
    lags = []
    for update in range(12):
        if update >= 3:  # at batch 3 the slow actor's unroll of version 0 is due
            if update == 3:
                with pytest.raises(TimeoutError):
                    pool.get(timeout=0.3)
            for _ in range(4):
                turn.release()
        versions_acted = pool.get(timeout=30).params_version
        lags += [update - version for version in versions_acted.tolist()]
        pool.publish(versions(update + 1))
    assert max(lags) == 3
    for _ in range(8):
        turn.release()


def test_parameters_are_not_copied(kit, echo_pool):
    pool, versions = echo_pool("0", kit.ActorPoolConfig(), lambda: None)
    shared = versions(0)
    assert pool._share(shared) is shared


def test_stop_ends_the_threads(kit, echo_pool):
    before = threading.active_count()
    pool, versions = echo_pool("1", kit.ActorPoolConfig(), lambda: None)
    kit.run(pool, versions, 0, 1)
    assert threading.active_count() == before + 2
    pool.stop(10)
    assert threading.active_count() == before
    assert all(environment.closed for environment in pool.environments)


def test_the_collapsed_runtime_never_imports_ray():
    code = "import sys, actors.thread_pool, actors.actor; sys.exit(any(m.split('.')[0] == 'ray' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


@pytest.mark.parametrize("lag", ["0", "1", "free"])
@pytest.mark.parametrize("lost", [False, True])
def test_a_pool_that_ended_can_be_taken_up_again(kit, echo_pool, lag, lost):
    """By the state that it still gives, or the one for when it gives none; with new actors, never with old seeds."""
    trouble = Trouble(raise_error, steps=range(10, 100))
    pool, versions = echo_pool(lag, kit.ActorPoolConfig(), trouble)
    version, end = 0, None
    while end is None:
        try:
            pool.get(timeout=30)
            version += 1
            pool.publish(versions(version))
        except ActorFailure as error:
            end = error
    state = pool.lost_state(version) if lost else pool.state(timeout=30)
    incarnations = state["incarnations"]
    trouble.steps = ()  # whatever it was is mended
    again = kit.make_pool("threads", lag, pool._make_actor)
    again.restore(state)
    again.start(versions(version))
    batches = kit.run(again, versions, version, 3)
    again.stop(10)
    assert [batch.observation.shape for batch in batches] == [(5, 4, 1)] * 3
    acted = [int(batch.params_version.max()) for batch in batches]
    assert acted == sorted(acted) and acted[0] <= version and acted[-1] >= version + 1
    assert again._incarnations == [incarnation + 1 for incarnation in incarnations]
