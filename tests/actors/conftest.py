"""Small agents, and environments that misbehave on purpose."""

import functools
import time

import dm_env
import jax
import numpy as np
import pytest

from actors.actor import make_actor
from actors.config import ActorPoolConfig, EnvironmentConfig, RayConfig
from actors.environments.make import environment_spec
from agents.config import AgentSettings, NetworkConfig
from agents.make import make_agent
from agents.types import FIRST, LAST, MID, EnvironmentSpec, VersionedParams

CONFIG = EnvironmentConfig()


class EchoEnvironment:
    """Its reward is its last action, its observation the number of steps of the stream; stream b has b+2 steps a life.

    Odd streams truncate, even ones terminate. `trouble` is called before each step.
    """

    def __init__(self, num_streams: int = 2, trouble=lambda: None):
        self.spec = EnvironmentSpec("echo", (1,), np.float32, 5, frame_stack=1, frames_per_step=1)
        self.num_streams = num_streams
        self.trouble = trouble
        self.closed = False

    def reset(self) -> dm_env.TimeStep:
        self._count = np.zeros(self.num_streams, np.int64)
        self._age = np.zeros(self.num_streams, np.int64)
        return self._time_step(np.zeros(self.num_streams, np.float32))

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        self.trouble()
        over = self._age == self._lifetime()
        self._age = np.where(over, 0, self._age + 1)
        self._count += 1
        return self._time_step(np.where(over, 0, action).astype(np.float32))

    def _lifetime(self) -> np.ndarray:
        return np.arange(self.num_streams) + 2

    def _time_step(self, reward: np.ndarray) -> dm_env.TimeStep:
        over = self._age == self._lifetime()
        step_type = np.where(over, LAST, np.where(self._age == 0, FIRST, MID)).astype(np.int8)
        discount = np.where(over & (np.arange(self.num_streams) % 2 == 0), 0, 1).astype(np.float32)
        return dm_env.TimeStep(step_type, reward, discount, self._count[:, None].astype(np.float32))

    def get_state(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True


def small_agent(torso: str = "mlp", lstm: int = 4, hidden: tuple[int, ...] = (8,)):
    """(spec) -> agent; picklable, of functions of the repository only."""
    network = NetworkConfig(torso=torso, hidden=hidden, lstm=lstm)
    return functools.partial(make_agent, "impala", settings=AgentSettings(network=network))


CATCH_AGENT = small_agent()


def actor_maker(game: str = "catch", make_agent=CATCH_AGENT, num_streams: int = 3, unroll_length: int = 5):
    return functools.partial(
        make_actor,
        game=game,
        config=CONFIG,
        make_agent=make_agent,
        seed=7,
        num_streams=num_streams,
        unroll_length=unroll_length,
        threads=1,
    )


class Versions:
    """Parameters that differ from version to version, always in the same way."""

    def __init__(self, game: str = "catch", make_agent=CATCH_AGENT):
        self.params = jax.device_get(make_agent(environment_spec(game, CONFIG)).init(jax.random.PRNGKey(0)))

    def __call__(self, version: int) -> VersionedParams:
        return VersionedParams(version, jax.tree.map(lambda x: x * np.float32(1 + version), self.params))


def make_pool(runtime: str, lag: str, maker=None, num_actors: int = 2, config: ActorPoolConfig | None = None):
    maker = maker or actor_maker()
    config = config or ActorPoolConfig()
    if runtime == "threads":
        from actors.thread_pool import ThreadPool

        return ThreadPool(maker, num_actors, lag, config, 1)
    from actors.ray_pool import RayPool

    return RayPool(maker, num_actors, lag, config, 1, ray_config=RayConfig(cpus_per_actor=0.25))


def run(pool, versions, first: int, updates: int) -> list:
    """What a training loop does with a started pool: the batches of updates first, first + 1, ..."""
    batches = []
    for update in range(first, first + updates):
        batches.append(jax.tree.map(np.array, pool.get(timeout=120)))
        pool.publish(versions(update + 1))
    return batches


def assert_same(expected, actual) -> None:
    assert jax.tree.structure(expected) == jax.tree.structure(actual)
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(actual), strict=True):
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_array_equal(one, other)


def wait_for(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.01)


@pytest.fixture
def kit():
    """The names above, for test modules (which pytest imports without a package)."""
    import types

    return types.SimpleNamespace(**{name: value for name, value in globals().items() if not name.startswith("_")})
