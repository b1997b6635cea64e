import jax
import pytest


@pytest.fixture
def float64():
    """64-bit floats, for comparisons to 1e-9. (Compiling with XLA's optimisations off costs these digits.)"""
    with jax.enable_x64(True):
        yield
