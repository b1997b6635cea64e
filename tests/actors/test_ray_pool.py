import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from actors.pool import ActorFailure
from agents.types import FIRST

pytestmark = pytest.mark.ray


def process_of(pool, actor: int) -> int:
    import ray

    return ray.get(pool._actors[actor].__ray_call__.remote(lambda collector: os.getpid()), timeout=60)


@pytest.mark.slow
def test_killed_and_hung_processes_are_replaced(kit):
    """kill -9 of one actor, then SIGSTOP of its replacement: the batches keep their order and their versions."""
    versions = kit.Versions()
    maker = kit.actor_maker()
    plain = maker(0, 0)
    config = kit.ActorPoolConfig(hang_seconds=4)
    pool = kit.make_pool("ray", "1", maker, config=config)
    pool.start(versions(0))
    batches = kit.run(pool, versions, 0, 2)
    killed = process_of(pool, 1)
    os.kill(killed, signal.SIGKILL)
    batches += kit.run(pool, versions, 2, 3)
    stopped = process_of(pool, 1)
    assert stopped != killed
    os.kill(stopped, signal.SIGSTOP)
    batches += kit.run(pool, versions, 5, 3)
    events = pool.events()
    restarts = pool.statistics()["actor_restarts"]
    pool.stop(10)

    assert [batch.params_version.tolist() for batch in batches] == [[max(k - 1, 0)] * 6 for k in range(8)]
    for k, batch in enumerate(batches):  # actor 0 never noticed
        np.testing.assert_array_equal(batch.action[:, :3], plain.unroll(versions(max(k - 1, 0))).trajectory.action)
    new = [k for k in range(1, 8) if (batches[k].observation[0] != batches[k - 1].observation[-1]).any()]
    assert len(new) <= 2  # seams; by chance the new episode may look like the old one
    assert all((batches[k].step_type[0, 3:] == FIRST).all() for k in new)
    assert restarts == 2 and len(events) == 2
    assert events[0].startswith("actor 1 lost (ActorDiedError: ") and events[0].endswith("incarnation 1")
    assert events[1] == "actor 1 lost (TimeoutError: no unroll within 4 s): replaced by incarnation 2"
    kit.wait_for(lambda: not os.path.exists(f"/proc/{stopped}"))


def test_missing_resources_are_named(kit):
    from actors.ray_pool import RayPool

    config = kit.ActorPoolConfig(start_seconds=1)
    pool = RayPool(kit.actor_maker(), 1, "1", config, 1, ray_config=kit.RayConfig(cpus_per_actor=512))
    versions = kit.Versions()
    pool.start(versions(0))
    begin = time.monotonic()
    with pytest.raises(ActorFailure, match=r"actor 0 had no process within 1 s .* CPU: 512 .* are free"):
        pool.get(timeout=30)
    assert time.monotonic() - begin < 15
    pool.stop(10)


def test_an_error_in_an_actor_arrives_with_its_text(kit):
    versions = kit.Versions()
    maker = kit.actor_maker(num_streams=10_000)  # more than `stream_seeds` has
    pool = kit.make_pool("ray", "1", maker, num_actors=1, config=kit.ActorPoolConfig(max_failures=0))
    pool.start(versions(0))
    with pytest.raises(ActorFailure, match=r"max-failures 0; the last one, actor 0: ValueError: .*10000 is not in"):
        pool.get(timeout=60)
    pool.stop(10)


def joined(address: str, seconds: float) -> tuple[str, str, float]:
    """What `connect` says of an address where there is no cluster, what is on stderr, and how long it took."""
    code = (
        "from actors import ray_pool; from actors.config import RayConfig; from actors.pool import ActorFailure\n"
        f"ray_pool.JOIN_SECONDS = {seconds}\n"
        f"try: ray_pool.connect(RayConfig(address='{address}'), 1)\n"
        "except ActorFailure as error: print(error)\n"
    )
    begin = time.monotonic()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return run.stdout, run.stderr, time.monotonic() - begin


def test_an_address_that_nobody_answers_gives_one_line():
    said, errors, _ = joined("127.0.0.1:1", 30.0)
    assert said.startswith("--ray.address 127.0.0.1:1: no Ray cluster could be joined there ("), errors
    assert said.count("\n") == 1


def test_an_address_that_is_no_clusters_gives_one_line_in_time():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        said, errors, seconds = joined(f"127.0.0.1:{listener.getsockname()[1]}", 8.0)
    assert "something listens there, but no cluster answers within 8 s" in said and said.count("\n") == 1
    assert errors == "" and seconds < 30
