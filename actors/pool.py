"""The contract between the training loop and the two runtimes."""

from typing import Any, Protocol

from agents.types import Trajectory, VersionedParams


class ActorFailure(RuntimeError):
    """The actors cannot go on: too many failures, or one that repeats at once. The message says what to do."""


class ActorPool(Protocol):
    """N actors that turn published parameters into batches.

    Version schedule (`lag`): batch D^k is acted by version k at lag "0" and by version max(k-1, 0) at lag "1", every
    batch being the N actors' unrolls in actor order: reproducible, whatever the runtime. Under "free" a batch is the
    first N unrolls that are ready (FIFO for each actor) and no unroll is older than `max_lag` versions when delivered.
    Version k is the parameters after k inner updates; the loop publishes every version, once, in order.
    """

    def start(self, params: VersionedParams) -> None:
        """Makes the actors and asks for their first unrolls. Call once, after `restore` if at all."""
        ...

    def get(self, timeout: float) -> Trajectory:
        """The next batch, numpy arrays of B streams. Raises TimeoutError, or ActorFailure if there cannot be one."""
        ...

    def publish(self, params: VersionedParams) -> None:
        """Hands out the next version. Never waits."""
        ...

    def statistics(self) -> dict[str, float]:
        """Of the batches delivered so far and since the last call: see `statistics.LifetimeStatistics.report`."""
        ...

    def events(self) -> list[str]:
        """What a user should know (actors lost and replaced, environments re-entered), each once."""
        ...

    def state(self, timeout: float) -> dict[str, Any]:
        """Everything the actors need to go on: waits for the unrolls under way and keeps them, so that nothing is lost.

        A dict of arrays, nested dicts and tuples; the pool goes on after the call.
        """
        ...

    def lost_state(self, version: int) -> dict[str, Any]:
        """A `state` for when the real one is not to be had: counters only, to go on at `version` with new actors."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up a `state`; call before `start`, whose `params` must be the version that the state was taken at."""
        ...

    def stop(self, deadline: float) -> None:
        """Ends the actors within `deadline` seconds."""
        ...
