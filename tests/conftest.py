"""Ray is started once, and before any test uses JAX: Ray forks, and JAX has threads once its backend is in use."""

import pytest

from actors.config import RayConfig


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly or not any(item.get_closest_marker("ray") for item in session.items):
        return
    from actors.ray_pool import connect

    connect(RayConfig(), num_actors=2)
