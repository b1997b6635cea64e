"""Ray is started once, and before any test uses JAX: Ray forks, and JAX has threads once its backend is in use.

Most of the suite's time is compilation, much of it of the same programs: they are kept for the session.
"""

import gc
import os
import shutil
import tempfile

import pytest

from actors.config import RayConfig

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# One place for pytest-xdist's workers, named by their controller.
_CONTROLLER = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
_CACHE = os.path.join(tempfile.gettempdir(), f"onelife-tests-{_CONTROLLER}")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _CACHE)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Programs compile four times as fast, here and in the processes that tests start. Without its optimisations XLA's
# newer emitter of fused kernels would cost float64 its last digits (1e-8); the older one keeps them (below 1e-9)
# in the learner's own programs, though not in one of a whole window (see test_reverse.py).
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
# Of each operation, where in Python it came from is not asked for: 7 % of the time of what compiles much.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
# Ray's idle workers, which no actor has asked for, took a twentieth of a core beside the tests.
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
os.environ.setdefault("RAY_enable_worker_prestart", "0")
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false"


@pytest.fixture
def float64():
    """64-bit floats, for comparisons to 1e-9."""
    import jax

    with jax.enable_x64(True):
        yield


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # the controller's, the last to end
        shutil.rmtree(_CACHE, ignore_errors=True)


def pytest_collection_finish(session: pytest.Session) -> None:
    # What is imported stays, and little of what tracing makes is garbage: looking for it took 5 % of the suite's time.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    if session.config.option.collectonly or not any(item.get_closest_marker("ray") for item in session.items):
        return
    from actors.ray_pool import connect

    connect(RayConfig(), num_actors=2)
