"""The collapsed runtime: actors are threads of the learner's process."""

import concurrent.futures
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from actors.actor import Actor
from actors.supervisor import SupervisedPool
from agents.types import VersionedParams


class _Worker:
    """A daemon thread with an actor of its own that it makes first, and then calls functions on, in order."""

    def __init__(self, name: str, make_actor: Callable[[], Actor]):
        self._calls: queue.SimpleQueue[tuple[concurrent.futures.Future, Callable[[Actor], Any]] | None]
        self._calls = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, args=(make_actor,), name=name, daemon=True)
        self.thread.start()

    def submit(self, call: Callable[[Actor], Any]) -> concurrent.futures.Future:
        future: concurrent.futures.Future = concurrent.futures.Future()
        self._calls.put((future, call))
        return future

    def close(self) -> None:
        """Ends the thread after the calls that it has; does not wait."""
        self._calls.put(None)

    def _run(self, make_actor: Callable[[], Actor]) -> None:
        actor: Actor | None = None
        while (item := self._calls.get()) is not None:
            future, call = item
            try:
                if actor is None:
                    actor = make_actor()
                future.set_result(call(actor))
            except Exception as error:
                future.set_exception(error)
        if actor is not None:
            actor.close()


class ThreadPool(SupervisedPool):
    """See `pool.ActorPool`. Parameters are passed as they are, without a copy.

    A thread that hangs cannot be ended: its replacement takes over and it is left to itself.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._workers: dict[int, _Worker] = {}

    def _spawn(self, actor: int, incarnation: int, state: dict[str, Any] | None) -> None:
        def make() -> Actor:
            made = self._make_actor(actor, incarnation)
            if state is not None:
                made.set_state(state)
            return made

        self._workers[actor] = _Worker(f"actor-{actor}", make)

    def _kill(self, actor: int) -> None:
        self._workers.pop(actor).close()

    def _share(self, params: VersionedParams) -> VersionedParams:
        return params

    def _submit(self, actor: int, shared_params: VersionedParams) -> concurrent.futures.Future:
        return self._workers[actor].submit(lambda worker: worker.unroll(shared_params))

    def _submit_get_state(self, actor: int) -> concurrent.futures.Future:
        return self._workers[actor].submit(lambda worker: worker.get_state())

    def _wait(self, handles: Sequence[concurrent.futures.Future], timeout: float) -> list[int]:
        concurrent.futures.wait(handles, timeout, concurrent.futures.FIRST_COMPLETED)
        return [index for index, handle in enumerate(handles) if handle.done()]

    def _result(self, handle: concurrent.futures.Future) -> Any:
        return handle.result(timeout=0)

    def stop(self, deadline: float) -> None:
        end = time.monotonic() + deadline
        workers = list(self._workers.values())
        for worker in workers:
            worker.close()
        for worker in workers:
            worker.thread.join(max(end - time.monotonic(), 0.0))
        self._workers.clear()
        self._alive = [False] * self._num_actors
