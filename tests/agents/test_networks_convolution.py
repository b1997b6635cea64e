import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.networks_convolution import convolve, convolve_by_rows, convolve_strips, max_pool, strips


@functools.partial(jax.jit, static_argnums=0)
def _with_gradients(function, cotangent, *given):
    """Value and gradients, as one program."""
    value, back = jax.vjp(function, *given)
    return value, back(cotangent)


def _library(x, w, stride):
    x = x.astype(w.dtype)
    return jax.lax.conv_general_dilated(x, w, (stride,) * 2, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _by_strips(x, w, stride):
    return convolve_strips(strips(jnp.moveaxis(x, -1, 1), w.shape[0], stride), w)


@pytest.mark.parametrize(
    ("image", "kernel", "stride"),
    [((84, 84, 4), 8, 4), ((20, 20, 16), 4, 2), ((9, 9, 8), 3, 1), ((22, 17, 3), 8, 4), ((8, 11, 2), 4, 2)],
)
def test_equals_the_library_with_both_gradients(image, kernel, stride):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *image)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(kernel, kernel, image[-1], 5)), jnp.float32)
    sides = [(side - kernel) // stride + 1 for side in image[:2]]
    cotangent = jnp.asarray(rng.normal(size=(2, *sides, 5)), jnp.float32)
    expected, expected_gradients = _with_gradients(lambda x, w: _library(x, w, stride), cotangent, x, w)
    for function in (convolve_by_rows, _by_strips):
        actual, actual_gradients = _with_gradients(functools.partial(function, stride=stride), cotangent, x, w)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
        for a, b in zip(actual_gradients, expected_gradients, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


def test_bytes_are_multiplied_in_the_type_of_the_kernel():
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.integers(0, 256, (2, 12, 12, 4), np.uint8))
    w = jnp.asarray(rng.integers(-3, 4, (8, 8, 4, 5)), jnp.float32)  # small integers: exact
    assert strips(jnp.moveaxis(x, -1, 1), 8, 4).dtype == jnp.uint8
    for function in (convolve_by_rows, _by_strips):
        actual = function(x, w, 4)
        assert actual.dtype == jnp.float32
        np.testing.assert_array_equal(actual, _library(x, w, 4))


@pytest.mark.parametrize("function", ["convolve_by_rows", "strips"])
def test_kernel_that_is_no_multiple_of_the_stride(function):
    with pytest.raises(ValueError, match="side 5 is no multiple of the stride 2"):
        if function == "strips":
            strips(jnp.zeros((1, 9, 9)), 5, 2)
        else:
            convolve_by_rows(jnp.zeros((1, 9, 9, 1)), jnp.zeros((5, 5, 1, 1)), 2)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_convolution_has_the_librarys_derivatives_up_to_the_second(padding):
    """Whichever way goes where: value, gradient, and a Hessian-vector product, alone and for many directions."""
    rng = np.random.default_rng(2)
    x, w, v = (jnp.asarray(rng.normal(size=shape)) for shape in ((3, 14, 14, 2), (4, 4, 2, 5), (6, 4, 4, 2, 5)))

    def library(x, w, stride, padding):
        return jax.lax.conv_general_dilated(x, w, (stride,) * 2, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def everything(function):
        def loss(w):
            return jnp.sum(jnp.tanh(function(x, w, 2, padding)) ** 2)

        curvature = jax.vmap(lambda v: jax.jvp(jax.grad(loss), (w,), (v,)))
        by_image = jax.grad(lambda x: jnp.sum(jnp.tanh(function(x, w, 2, padding)) ** 2))
        return function(x, w, 2, padding), jax.value_and_grad(loss)(w), curvature(v), by_image(x)

    for a, b in zip(*map(jax.tree.leaves, (everything(convolve), everything(library))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def _pooled_by_the_library(x):
    return hk.max_pool(x, (3, 3, 1), (2, 2, 1), "SAME")


@pytest.mark.parametrize("side", [7, 8, 21])
@pytest.mark.parametrize("ties", [False, True])
def test_pooling_equals_the_librarys_with_its_gradient(side, ties):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (2, side, side, 3)) if ties else rng.normal(size=(2, side, side, 3))
    x = jnp.asarray(x, jnp.float32)
    cotangent = jnp.asarray(rng.normal(size=(2, -(-side // 2), -(-side // 2), 3)), jnp.float32)
    expected, expected_gradients = _with_gradients(_pooled_by_the_library, cotangent, x)
    actual, actual_gradients = _with_gradients(max_pool, cotangent, x)
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_allclose(actual_gradients[0], expected_gradients[0], atol=1e-6)


def test_poolings_derivatives_are_transposes_of_each_other_where_pixels_are_equal():
    """Which XLA's are not, on images of even sides, unless it is told to compile quickly (as it is in these tests)."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(0, 4, (2, 20, 20, 3)), jnp.float32)
    direction = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    cotangent = jnp.asarray(rng.normal(size=(2, 10, 10, 3)), jnp.float32)
    along = jax.jit(lambda x, d: jax.jvp(max_pool, (x,), (d,))[1])(x, direction)
    _, (back,) = _with_gradients(max_pool, cotangent, x)
    np.testing.assert_allclose(jnp.vdot(cotangent, along), jnp.vdot(back, direction), rtol=1e-4)


def test_pooling_keeps_what_is_not_a_number():
    x = jnp.zeros((1, 8, 8, 1)).at[0, 4, 4, 0].set(jnp.nan)
    assert jnp.isnan(max_pool(x)).sum() == 4
