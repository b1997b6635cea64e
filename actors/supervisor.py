"""What the two runtimes share: the schedule, the deadlines, the replacement of failed actors, and saved states."""

import collections
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np

from actors.actor import Actor
from actors.config import ActorPoolConfig
from actors.pool import ActorFailure
from actors.schedule import Schedule
from actors.statistics import LifetimeStatistics
from agents.types import Provenance, Trajectory, Unroll, VersionedParams

_POLL_SECONDS = 0.25  # between two looks at the deadlines
_FAILURE_WINDOW_SECONDS = 3600.0
_FAILURES_IN_A_ROW = 3  # of one actor without an unroll in between: another try would end the same way


class SupervisedPool:
    """`pool.ActorPool` without the transport, which a runtime adds in the methods that raise NotImplementedError.

    An actor that raises, dies or misses its deadline is replaced by its next incarnation (new seeds, new episodes). The
    unroll that it was making is discarded, and at lags 0 and 1 asked for again with the same version. Unrolls that it
    had finished are kept.
    """

    def __init__(
        self,
        make_actor: Callable[[int, int], Actor],
        num_actors: int,
        lag: Literal["0", "1", "free"],
        config: ActorPoolConfig,
        frames_per_step: int,
    ):
        """
        Args:
          make_actor: (actor_index, incarnation) -> actor; see `actor.make_actor`.
          num_actors: N.
          lag: see `pool.ActorPool`.
          config: deadlines and bounds.
          frames_per_step: emulator frames of an agent step.
        """
        self._make_actor = make_actor
        self._num_actors = num_actors
        self._config = config
        self._lag = lag
        self._schedule = Schedule(num_actors, lag, config.max_lag)
        self._statistics = LifetimeStatistics(num_actors, frames_per_step)
        self._params: dict[int, Any] = {}  # version -> what `_share` made of it
        self._handles: dict[int, Any] = {}  # actor -> the unroll under way
        self._deadlines: dict[int, tuple[float, float]] = {}  # actor -> (time, the seconds that it was given)
        self._incarnations = [0] * num_actors
        self._alive = [False] * num_actors
        self._started = [False] * num_actors  # the incarnation has delivered
        self._failures: collections.deque[float] = collections.deque()
        self._failures_in_a_row = [0] * num_actors
        self._computing: VersionedParams | None = None  # the newest, until their values are there
        self._failure: ActorFailure | None = None
        self._events: list[str] = []
        self._restored: tuple[dict[str, Any] | None, ...] | None = None

    # The transport.

    def _spawn(self, actor: int, incarnation: int, state: dict[str, Any] | None) -> None:
        """Starts making an actor (from `state` if given), without waiting for it."""
        raise NotImplementedError

    def _kill(self, actor: int) -> None:
        """Ends an actor that may be dead, or deaf."""
        raise NotImplementedError

    def _share(self, params: VersionedParams) -> Any:
        """Makes parameters ready to be sent to every actor, without waiting for their values."""
        raise NotImplementedError

    def _submit(self, actor: int, shared_params: Any) -> Any:
        """Asks for an unroll; returns a handle, without waiting."""
        raise NotImplementedError

    def _submit_get_state(self, actor: int) -> Any:
        """Asks for the actor's state; returns a handle, without waiting."""
        raise NotImplementedError

    def _wait(self, handles: Sequence[Any], timeout: float) -> list[int]:
        """Indices of the handles that are done; waits until there is one, or for `timeout` seconds."""
        raise NotImplementedError

    def _result(self, handle: Any) -> Any:
        """The result of a handle that is done; raises the actor's error."""
        raise NotImplementedError

    def _overdue(self, actor: int, seconds: float) -> Exception:
        """What to say of an actor that missed its deadline; an `ActorFailure` ends the pool."""
        return TimeoutError(f"no unroll within {seconds:g} s")

    def stop(self, deadline: float) -> None:
        raise NotImplementedError

    # `ActorPool`.

    def start(self, params: VersionedParams) -> None:
        if self._restored is None:
            self._schedule.start(params.version)
            states: tuple[dict[str, Any] | None, ...] = (None,) * self._num_actors
        else:
            if params.version != self._schedule.latest_version:
                raise ValueError(
                    f"the pool's state was taken at version {self._schedule.latest_version}, "
                    f"but it starts with version {params.version}"
                )
            states, self._restored = self._restored, None
        self._params[params.version] = self._share(params)
        for actor, state in enumerate(states):
            self._spawn(actor, self._incarnations[actor], state)
            self._alive[actor] = True
        self._dispatch()

    def publish(self, params: VersionedParams) -> None:
        self._schedule.publish(params.version)
        self._computing = params
        self._params[params.version] = self._share(params)
        self._dispatch()

    def get(self, timeout: float) -> Trajectory:
        end = time.monotonic() + timeout
        while True:
            if self._failure is not None:
                raise self._failure
            self._dispatch()
            index = self._schedule.batch_index
            batch = self._schedule.take_batch()
            self._dispatch()
            if batch is not None:
                return self._deliver(batch, index)
            remaining = end - time.monotonic()
            if not self._receive(min(max(remaining, 0.0), _POLL_SECONDS)) and remaining <= 0:
                raise TimeoutError(f"no batch within {timeout:g} s")

    def statistics(self) -> dict[str, float]:
        return self._statistics.report()

    def events(self) -> list[str]:
        events, self._events = self._events, []
        return events

    def state(self, timeout: float) -> dict[str, Any]:
        end = time.monotonic() + timeout
        if self._schedule.batch_index != self._schedule.latest_version:
            raise RuntimeError("the last batch had no update")
        # What an older version still has to act, it acts now: whoever restores this state has the latest version only.
        self._dispatch(below=self._schedule.latest_version)
        while not self._schedule.idle():
            remaining = end - time.monotonic()
            if not self._receive(min(max(remaining, 0.0), _POLL_SECONDS)) and remaining <= 0:
                raise TimeoutError(f"the unrolls under way were not done within {timeout:g} s")
            self._dispatch(below=self._schedule.latest_version)
        schedule = self._schedule.get_state()
        schedule["ready"] = tuple(tuple(map(_pack, queue)) for queue in schedule["ready"])
        schedule["batch"] = tuple(map(_pack, schedule["batch"]))
        return {
            "schedule": schedule,
            "statistics": self._statistics.get_state(),
            "actors": self._actor_states(end),
            "incarnations": tuple(self._incarnations),
        }

    def lost_state(self, version: int) -> dict[str, Any]:
        schedule = Schedule(self._num_actors, self._lag, self._config.max_lag)
        schedule.start(version)
        return {
            "schedule": schedule.get_state(),
            "statistics": self._statistics.get_state(),
            "actors": (None,) * self._num_actors,
            "incarnations": tuple(self._incarnations),
        }

    def restore(self, state: dict[str, Any]) -> None:
        if len(state["actors"]) != self._num_actors:
            raise ValueError(f"the state is one of {len(state['actors'])} actors, this pool has {self._num_actors}")
        schedule = dict(state["schedule"])
        schedule["ready"] = [[_unpack(unroll) for unroll in queue] for queue in schedule["ready"]]
        schedule["batch"] = [_unpack(unroll) for unroll in schedule["batch"]]
        self._schedule.set_state(schedule)
        self._statistics.set_state(state["statistics"])
        self._restored = tuple(state["actors"])
        self._incarnations = [int(incarnation) for incarnation in state["incarnations"]]
        lost = [actor for actor, actor_state in enumerate(self._restored) if actor_state is None]
        for actor in lost:
            self._incarnations[actor] += 1
        if lost:
            self._events.append(
                f"{len(lost)} of {self._num_actors} actors start new episodes: their environments cannot be restored"
            )

    # Inside.

    def _dispatch(self, below: int | None = None) -> None:
        """Asks every actor for what the schedule wants of it; `below`: only for what versions below this one act."""
        for actor in range(self._num_actors):
            version = self._schedule.next_version(actor) if self._alive[actor] else None
            if version is None or (below is not None and version >= below):
                continue
            # Restored after a loss, an actor may owe an unroll of a version that is gone: the oldest one left acts it.
            version = max(version, min(self._params))
            seconds = self._config.hang_seconds if self._started[actor] else self._config.start_seconds
            self._schedule.requested(actor, version)
            self._deadlines[actor] = (time.monotonic() + seconds, seconds)
            self._handles[actor] = self._submit(actor, self._params[version])
        oldest = self._schedule.oldest_version()
        self._params = {version: params for version, params in self._params.items() if version >= oldest}

    def _receive(self, timeout: float) -> bool:
        """Takes in what is done, waiting for the first; then looks at the deadlines. True if anything changed."""
        actors = list(self._handles)
        if not actors:
            time.sleep(min(timeout, 0.01))
            return False
        done = [actors[index] for index in self._wait([self._handles[actor] for actor in actors], timeout)]
        for actor in done:
            try:
                unroll = self._result(self._handles.pop(actor))
            except Exception as error:
                self._fail(actor, error)
                continue
            self._schedule.received(actor, unroll)
            self._started[actor] = True
            self._failures_in_a_row[actor] = 0
        now = time.monotonic()
        if self._computing is not None:
            if all(leaf.is_ready() for leaf in jax.tree.leaves(self._computing.params) if isinstance(leaf, jax.Array)):
                self._computing = None
            else:  # what they wait for may be the learner: an update can take longer than an unroll ever may
                self._deadlines = {actor: (now + seconds, seconds) for actor, (_, seconds) in self._deadlines.items()}
        late = [actor for actor in self._handles if now > self._deadlines[actor][0]]
        for actor in late:
            self._fail(actor, self._overdue(actor, self._deadlines[actor][1]))
        return bool(done or late)

    def _fail(self, actor: int, error: Exception) -> None:
        """Ends an actor, and replaces it unless there were too many failures."""
        now = time.monotonic()
        text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        self._handles.pop(actor, None)
        self._schedule.failed(actor)
        self._alive[actor] = self._started[actor] = False
        self._kill(actor)
        self._failures.append(now)
        while self._failures[0] < now - _FAILURE_WINDOW_SECONDS:
            self._failures.popleft()
        self._failures_in_a_row[actor] += 1
        if isinstance(error, ActorFailure):
            self._failure = error
        elif len(self._failures) > self._config.max_failures:
            self._failure = ActorFailure(
                f"{len(self._failures)} actors failed within an hour, more than --pool.max-failures "
                f"{self._config.max_failures}; the last one, actor {actor}: {text}"
            )
        elif self._failures_in_a_row[actor] >= _FAILURES_IN_A_ROW:
            self._failure = ActorFailure(
                f"actor {actor} failed {_FAILURES_IN_A_ROW} times in a row without an unroll; the last time: {text}"
            )
        if self._failure is not None:
            self._failure.__cause__ = error
            self._events.append(f"actor {actor} lost ({text})")
            return
        self._incarnations[actor] += 1
        self._statistics.restarted()
        self._events.append(f"actor {actor} lost ({text}): replaced by incarnation {self._incarnations[actor]}")
        self._spawn(actor, self._incarnations[actor], None)
        self._alive[actor] = True

    def _deliver(self, batch: list[Unroll], index: int) -> Trajectory:
        for trajectory, provenance in batch:
            self._statistics.update(trajectory, provenance, index - provenance.params_version)
        trajectories = [unroll.trajectory for unroll in batch]
        if len(trajectories) == 1:
            return trajectories[0]
        whole = [trajectory._replace(core_state=(), params_version=()) for trajectory in trajectories]
        by_stream = [(trajectory.core_state, trajectory.params_version) for trajectory in trajectories]
        core_state, params_version = jax.tree.map(lambda *parts: np.concatenate(parts, axis=0), *by_stream)
        joined = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *whole)
        return joined._replace(core_state=core_state, params_version=params_version)

    def _actor_states(self, end: float) -> tuple[dict[str, Any] | None, ...]:
        """The state of every actor, None for those that have none to give. Only while all are idle."""
        handles = {actor: self._submit_get_state(actor) for actor in range(self._num_actors) if self._alive[actor]}
        states: dict[int, dict[str, Any] | None] = {}
        while handles:
            actors = list(handles)
            remaining = end - time.monotonic()
            done = self._wait(list(handles.values()), min(max(remaining, 0.0), _POLL_SECONDS))
            if not done and remaining <= 0:
                raise TimeoutError(f"actors {actors} did not give their states in time")
            for index in done:
                try:
                    states[actors[index]] = self._result(handles.pop(actors[index]))
                except Exception as error:
                    self._fail(actors[index], error)
        return tuple(states.get(actor) for actor in range(self._num_actors))


def _pack(unroll: Unroll) -> dict[str, Any]:
    """As dicts and tuples of arrays and integers."""
    return {"trajectory": unroll.trajectory._asdict(), "provenance": unroll.provenance._asdict()}


def _unpack(packed: dict[str, Any]) -> Unroll:
    provenance = {name: int(value) for name, value in packed["provenance"].items()}
    return Unroll(Trajectory(**packed["trajectory"]), Provenance(**provenance))
