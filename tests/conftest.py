"""Ray is started before any test uses JAX (Ray forks, and JAX has threads once its backend is in use), and once for all
of pytest-xdist's workers where the whole suite runs.

Most of the suite's time is compilation, much of it of the same programs: they are kept for the session.
"""

import gc
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from actors.config import RayConfig
from scripts.compile_cache import COMPILE_FAST

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# One place for pytest-xdist's workers, named by their controller.
_CONTROLLER = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
_RAY = "ONELIFE_TESTS_RAY"  # address of the cluster that the controller has started
_CACHE = os.path.join(tempfile.gettempdir(), f"onelife-tests-{_CONTROLLER}")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _CACHE)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Programs compile four times as fast, here and in the processes that tests start. Without its optimisations XLA's
# newer emitter of fused kernels would cost float64 its last digits (1e-8); the older one keeps them (below 1e-9)
# in the learner's own programs, though not in one of a whole window (see test_reverse.py).
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
# Of each operation, where in Python it came from is not asked for: 7 % of the time of what compiles much.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
# Each program as one piece, too: the other core has tests of its own to run.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {COMPILE_FAST}"
# What compiles takes and returns memory all the time: an eighth of it less with the malloc that Ray brings along.
# For pytest-xdist's workers alone: what they start runs as it does for everyone.
_MALLOC = Path(importlib.util.find_spec("ray").origin).parent / "core" / "libjemalloc.so"
if os.environ.get("LD_PRELOAD") == str(_MALLOC):
    del os.environ["LD_PRELOAD"]
elif _MALLOC.exists():
    os.environ.setdefault("LD_PRELOAD", str(_MALLOC))


@pytest.fixture
def float64():
    """64-bit floats, for comparisons to 1e-9."""
    import jax

    with jax.enable_x64(True):
        yield


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # the controller's, the last to end
        shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list) -> None:
    """In the controller, before its workers start."""
    if config.args_source is not config.ArgsSource.TESTPATHS:
        return  # a part of the tests, which may be without Ray
    import ray

    from actors.ray_pool import connect

    preloaded = os.environ.pop("LD_PRELOAD", None)  # for pytest-xdist's workers alone
    connect(RayConfig(), num_actors=4 * len(specs))
    os.environ[_RAY] = ray.get_runtime_context().gcs_address
    if preloaded:
        os.environ["LD_PRELOAD"] = preloaded


def pytest_collection_finish(session: pytest.Session) -> None:
    # What is imported stays, and little of what tracing makes is garbage: looking for it took 5 % of the suite's time.
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)
    if session.config.option.collectonly or not any(item.get_closest_marker("ray") for item in session.items):
        return
    from actors.ray_pool import connect

    connect(RayConfig(address=os.environ.get(_RAY, "")), num_actors=2)
