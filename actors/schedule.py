"""Which actor acts when, with which version of the parameters, and in which batch its unroll goes.

Bookkeeping only, without threads, processes or clocks: both runtimes follow it, so that their batches are equal.
"""

import collections
from typing import Any, Literal

from agents.types import Unroll


class Schedule:
    """The version schedule of `pool.ActorPool` for N actors with at most one unroll under way each.

    Batch k is what update k learns from, so the lag of an unroll is k minus the version that acted it. Lags "0" and "1"
    tie every batch to one version. "free" keeps at most one unroll outstanding (under way or ready) for each actor, and
    reserves a place in the batch for each one that would be too old for the next: `max_lag` costs waiting, never data.
    """

    def __init__(self, num_actors: int, lag: Literal["0", "1", "free"], max_lag: int):
        if lag not in ("0", "1", "free"):
            raise ValueError(f"lag is {lag!r}: it must be one of '0', '1', 'free'")
        if lag == "free" and max_lag < 1:
            raise ValueError(f"pool.max_lag is {max_lag}: it must be at least 1")
        self._num_actors = num_actors
        self._lag = lag
        self._max_lag = max_lag
        self._made = [0] * num_actors  # unrolls received from each actor; with lags 0 and 1 also the next one's batch
        self._under_way: dict[int, int] = {}  # actor -> version
        self._ready: list[collections.deque[Unroll]] = [collections.deque() for _ in range(num_actors)]
        self._arrivals: collections.deque[int] = collections.deque()  # free: actors with a ready unroll, in order
        self._batch: list[Unroll] = []  # free: the batch being filled
        self._first_version = 0
        self.latest_version = -1
        self.batch_index = 0  # of the next batch

    def start(self, version: int) -> None:
        """The first version is there; batches are counted from it, so that batch k drives update k."""
        self._first_version = self.latest_version = self.batch_index = version
        self._made = [version] * self._num_actors

    def publish(self, version: int) -> None:
        if version != self.latest_version + 1:
            raise ValueError(f"version {version} was published after {self.latest_version}: versions go up by one")
        self.latest_version = version

    def next_version(self, actor: int) -> int | None:
        """The version that the actor should act now, or None where it has to wait."""
        if actor in self._under_way:
            return None
        if self._lag == "free":
            if self._ready[actor]:
                return None
            deadline = self.latest_version + self._max_lag
            in_time = deadline > self.batch_index or (deadline == self.batch_index and self._due() < self._places())
            return self.latest_version if in_time else None
        version = max(self._made[actor] - int(self._lag), self._first_version)
        return version if version <= self.latest_version else None

    def oldest_version(self) -> int:
        """No version below this one will be asked for again."""
        if self._lag == "free":
            return self.latest_version
        return max(min(self._made) - int(self._lag), self._first_version)

    def requested(self, actor: int, version: int) -> None:
        self._under_way[actor] = version

    def failed(self, actor: int) -> None:
        """The unroll under way is lost; with lags 0 and 1 the same version will be asked for again."""
        self._under_way.pop(actor, None)

    def received(self, actor: int, unroll: Unroll) -> None:
        del self._under_way[actor]
        self._made[actor] += 1
        self._ready[actor].append(unroll)
        if self._lag == "free":
            self._arrivals.append(actor)

    def idle(self) -> bool:
        """No unroll is under way."""
        return not self._under_way

    def take_batch(self) -> list[Unroll] | None:
        """The next batch once it is complete: N unrolls, in actor order at lags 0 and 1, else in order of arrival."""
        if self._lag == "free":
            waiting: collections.deque[int] = collections.deque()
            while self._arrivals and self._places():
                actor = self._arrivals.popleft()
                if self._is_due(self._ready[actor][0].provenance.params_version) or self._places() > self._due():
                    self._batch.append(self._ready[actor].popleft())
                else:
                    waiting.append(actor)
            self._arrivals.extendleft(reversed(waiting))
            if self._places():
                return None
            batch, self._batch = self._batch, []
        else:
            if not all(self._ready):
                return None
            batch = [ready.popleft() for ready in self._ready]
        self.batch_index += 1
        return batch

    def _places(self) -> int:
        return self._num_actors - len(self._batch)

    def _is_due(self, version: int) -> bool:
        return version + self._max_lag <= self.batch_index

    def _due(self) -> int:
        """How many outstanding unrolls would be too old for the batch after this one."""
        ready = [unroll.provenance.params_version for queue in self._ready for unroll in queue]
        return sum(map(self._is_due, [*ready, *self._under_way.values()]))

    def get_state(self) -> dict[str, Any]:
        """Plain integers and `Unroll`s, for `set_state`; only while idle."""
        assert self.idle()
        return {
            "first_version": self._first_version,
            "latest_version": self.latest_version,
            "batch_index": self.batch_index,
            "made": tuple(self._made),
            "ready": tuple(tuple(queue) for queue in self._ready),
            "arrivals": tuple(self._arrivals),
            "batch": tuple(self._batch),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self._first_version = int(state["first_version"])
        self.latest_version = int(state["latest_version"])
        self.batch_index = int(state["batch_index"])
        self._made = [int(made) for made in state["made"]]
        self._ready = [collections.deque(queue) for queue in state["ready"]]
        self._arrivals = collections.deque(int(actor) for actor in state["arrivals"])
        self._batch = list(state["batch"])
