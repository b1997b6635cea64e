"""The Ray runtime: actors are processes, on this machine or on a cluster."""

import concurrent.futures
import functools
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

# Read when ray is imported. Ray would build a new virtual environment for each worker of a driver run by `uv run`.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import jax
import ray
import ray.exceptions

from actors.actor import Actor
from actors.config import RayConfig
from actors.pool import ActorFailure
from actors.supervisor import SupervisedPool
from agents.types import Unroll, VersionedParams

REACH_SECONDS = 10.0  # for a cluster's address to answer
JOIN_SECONDS = 30.0  # for the cluster there to take a driver
_JOIN = """
import sys
import ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="critical")
except Exception as error:
    sys.exit(print(str(error).strip() or type(error).__name__) or 1)
"""


class _Collector:
    """The process of one actor. Results are returned, so that the driver owns them and they outlive this process."""

    def __init__(self, make_actor: Callable[[], Actor], state: dict[str, Any] | None):
        # An accelerator belongs to the learner: Ray leaves it visible here. Before the backend's first use.
        jax.config.update("jax_platforms", "cpu")
        self._make_actor = make_actor
        self._state = state
        self._actor: Actor | None = None

    def ready(self) -> None:
        """Returns once the process runs."""

    def unroll(self, params: VersionedParams) -> Unroll:
        return self._made().unroll(params)

    def get_state(self) -> dict[str, Any] | None:
        return self._made().get_state()

    def _made(self) -> Actor:
        """Made at the first call and not by the constructor, so that its errors reach the driver with their cause."""
        if self._actor is None:
            self._actor = self._make_actor()
            if self._state is not None:
                self._actor.set_state(self._state)
            self._state = None
        return self._actor


class RayPool(SupervisedPool):
    """See `pool.ActorPool`. Make it before JAX's backend is first used: Ray forks, and JAX has threads from then on.

    Each version of the parameters goes once into Ray's object store, and from there as the argument of the call for an
    unroll, so that an unroll is made with exactly the version that it names. Each actor has one call under way.

    Batches equal the thread pool's bit for bit where the actors' machine has the processor and the number of usable
    cores of the learner's, and the learner acts on its CPU: XLA compiles some networks differently for one core than
    for more. That is why collectors are not pinned to cores.
    """

    def __init__(self, *args: Any, ray_config: RayConfig, **kwargs: Any):
        """Like `SupervisedPool`; calls `connect` first."""
        super().__init__(*args, **kwargs)
        self._ray_config = ray_config
        connect(ray_config, self._num_actors)
        self._collector = ray.remote(
            num_cpus=ray_config.cpus_per_actor, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )(_Collector)
        self._actors: dict[int, Any] = {}
        self._running: dict[int, ray.ObjectRef] = {}  # done once the actor's process runs
        # One thread that waits for the parameters' values, and sends what has to wait for them, in order.
        self._sender = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="ray-sender")

    def _spawn(self, actor: int, incarnation: int, state: dict[str, Any] | None) -> None:
        make_actor = functools.partial(self._make_actor, actor, incarnation)
        self._actors[actor] = self._collector.remote(make_actor, state)
        self._running[actor] = self._actors[actor].ready.remote()

    def _kill(self, actor: int) -> None:
        ray.kill(self._actors.pop(actor), no_restart=True)

    def _share(self, params: VersionedParams) -> concurrent.futures.Future:
        return self._sender.submit(lambda: ray.put(jax.device_get(params)))

    def _submit(self, actor: int, shared_params: concurrent.futures.Future) -> concurrent.futures.Future:
        collector = self._actors[actor]
        return self._sender.submit(lambda: collector.unroll.remote(shared_params.result(timeout=0)))

    def _submit_get_state(self, actor: int) -> concurrent.futures.Future:
        collector = self._actors[actor]
        return self._sender.submit(lambda: collector.get_state.remote())

    def _wait(self, handles: Sequence[concurrent.futures.Future], timeout: float) -> list[int]:
        end = time.monotonic() + timeout
        sent = concurrent.futures.wait(handles, timeout).done
        if unsent := [index for index, handle in enumerate(handles) if handle in sent and handle.exception(timeout=0)]:
            return unsent  # `_result` raises what went wrong
        references = {handle.result(timeout=0): index for index, handle in enumerate(handles) if handle in sent}
        if not references:
            return []
        remaining = max(end - time.monotonic(), 0.0)
        done, _ = ray.wait(list(references), num_returns=1, timeout=remaining, fetch_local=True)
        if done:
            done, _ = ray.wait(list(references), num_returns=len(references), timeout=0)
        return [references[reference] for reference in done]

    def _result(self, handle: concurrent.futures.Future) -> Any:
        try:
            return ray.get(handle.result(timeout=0), timeout=self._config.hang_seconds)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause or error) from None

    def _overdue(self, actor: int, seconds: float) -> Exception:
        if ray.wait([self._running[actor]], timeout=0)[0]:
            return super()._overdue(actor, seconds)
        free, total = ray.available_resources().get("CPU", 0), ray.cluster_resources().get("CPU", 0)
        return ActorFailure(
            f"actor {actor} had no process within {seconds:g} s (--pool.start-seconds): it needs CPU: "
            f"{self._ray_config.cpus_per_actor:g} (--ray.cpus-per-actor), and {free:g} of the cluster's {total:g} "
            "are free"
        )

    def stop(self, deadline: float) -> None:
        """Kills the actors, without waiting. Ray itself ends with this process: batches may lie in its memory."""
        for actor in list(self._actors):
            self._kill(actor)
        self._alive = [False] * self._num_actors
        self._handles.clear()
        self._params.clear()
        self._sender.shutdown(wait=False, cancel_futures=True)


def _try_to_join(address: str) -> None:
    """Raises ConnectionError, with the reason, where no cluster can be joined at `address` within JOIN_SECONDS.

    Found by a process of its own: Ray itself tries for many minutes, and fills stderr meanwhile.
    """
    command = [sys.executable, "-c", _JOIN, address]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=JOIN_SECONDS)
    except subprocess.TimeoutExpired:
        raise ConnectionError(f"something listens there, but no cluster answers within {JOIN_SECONDS:g} s") from None
    if tried.returncode:
        raise ConnectionError(tried.stdout.strip() or f"exit code {tried.returncode}")


def connect(config: RayConfig, num_actors: int) -> None:
    """Joins the cluster at `config.address`; without one, starts a quiet local one with room for all actors.

    Does nothing where this process has started or joined Ray already. Raises ActorFailure, one line that says what to
    look at, for a cluster that cannot be joined.
    """
    if ray.is_initialized():
        return
    quiet = {"log_to_driver": False, "logging_level": "error"}
    if not config.address:
        cpus = max(os.cpu_count() or 1, math.ceil(num_actors * config.cpus_per_actor))
        # Ray's workers have a niceness of 15 where nothing is said: beside a learner that uses all cores they would
        # starve, and it would wait for them. Those that no actor has asked for take memory, and time for nothing.
        system = {"worker_niceness": 0, "prestart_worker_first_driver": False, "enable_worker_prestart": False}
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, _system_config=system, **quiet)
        return
    try:
        host, colon, port = config.address.removeprefix("ray://").rpartition(":")
        if colon and port.isdecimal():
            socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()
        _try_to_join(config.address)
        ray.init(address=config.address, **quiet)
    except Exception as error:  # ConnectionError, AuthenticationError, version mismatches: all mean the same to a user
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ActorFailure(
            f"--ray.address {config.address}: no Ray cluster could be joined there ({reason}). Is it running, with the "
            "same versions of Ray and Python, and does it ask for a token (RAY_AUTH_MODE, RAY_AUTH_TOKEN_PATH)?"
        ) from error
