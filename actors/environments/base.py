"""What every environment is: a batch of endless streams of episodes behind one dm_env interface."""

from typing import Any, Protocol

import dm_env

from agents.types import Array, EnvironmentSpec


class Environment(Protocol):
    """B independent streams stepped together; B is fixed.

    `reset` and `step` return one `dm_env.TimeStep` of numpy arrays: step_type [B] int8, reward [B] float32 (raw),
    discount [B] float32, observation [B, ...]. Reward and discount are arrays at FIRST too (0 and 1). Streams reset
    themselves: after LAST the next `step` ignores the stream's action and returns FIRST. LAST with discount 0 is a
    termination, LAST with discount 1 a truncation: its observation is the episode's own last one.
    """

    spec: EnvironmentSpec
    num_streams: int

    def reset(self) -> dm_env.TimeStep: ...

    def step(self, action: Array) -> dm_env.TimeStep:
        """action [B] int, each in [0, num_actions)."""
        ...

    def get_state(self) -> Any:
        """Everything needed to go on from here bit for bit (a pytree of numpy arrays), or None where that cannot be."""
        ...

    def set_state(self, state: Any) -> dm_env.TimeStep:
        """Go on from `state` (from `get_state`); returns the time step it was taken at."""
        ...

    def close(self) -> None: ...


class JaxEnvironment(Protocol):
    """One stream as pure functions; `vmap` gives a batch, `scan` an unroll inside the graph.

    `TimeStep` leaves are jax arrays of the shapes and types above, without the B axis. The state holds the stream's
    own random key, and any clock of the lifetime, which episode ends never reset.

    An environment that is a family of tasks takes the key of one as the second argument of `reset`, and says so by
    `has_tasks = True`; without it, it is the task that its settings name.
    """

    spec: EnvironmentSpec

    def reset(self, key: Array) -> tuple[Any, dm_env.TimeStep]: ...

    def step(self, state: Any, action: Array) -> tuple[Any, dm_env.TimeStep]: ...
