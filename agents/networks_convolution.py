"""Convolution with the arithmetic that the device at hand is quick at, and pooling with derivatives that agree."""

import functools

import jax
import jax.numpy as jnp

from agents.types import Array


def convolve(x: Array, w: Array, stride: int, padding: str) -> Array:
    """[N, H, W, C], [K, K, C, D] -> [N, H', W', D] in the type of w; padding "SAME" or "VALID".

    On a CPU, XLA's own convolution is the quickest where nothing is differentiated (acting), and for padded 3x3 kernels
    everywhere. The gradients of one without padding are up to three times as quick by matrix products
    (`convolve_by_rows`), with the same parameters.
    """
    # Asked while tracing, when JAX's backend is in use anyway: making a network must not start it.
    if padding == "VALID" and jax.default_backend() == "cpu":
        return _convolve_on_cpu(x, w, stride)
    return _convolve(x, w, stride, padding)


def _convolve(x: Array, w: Array, stride: int, padding: str) -> Array:
    return jax.lax.conv_general_dilated(
        x.astype(w.dtype), w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _convolve_on_cpu(x: Array, w: Array, stride: int) -> Array:
    return _convolve(x, w, stride, "VALID")


@_convolve_on_cpu.defjvp
def _convolve_on_cpu_moved(stride: int, given: tuple[Array, Array], moved: tuple[Array, Array]) -> tuple[Array, Array]:
    return jax.jvp(lambda x, w: convolve_by_rows(x, w, stride), given, moved)


def convolve_by_rows(x: Array, w: Array, stride: int) -> Array:
    """`convolve` without padding, on blocks of stride x stride pixels: a matrix product for each row of the kernel.

    A row's product is with all its columns at once, over all columns of blocks, and what they give is added up where it
    belongs. That is more arithmetic than there is to do (by 7 % in impala_shallow's forward pass, 15 % in nature's),
    but blocks are read as they lie, not copied for each column, and products are wide.

    Raises:
      ValueError: K is no multiple of the stride.
    """
    kernel, _, channels, features = w.shape
    if kernel % stride:
        raise ValueError(f"the kernel's side {kernel} is no multiple of the stride {stride}")
    side = kernel // stride
    rows, columns = ((length - kernel) // stride + 1 for length in x.shape[1:3])
    x = _blocks(x, stride, rows + side - 1, columns + side - 1).astype(w.dtype)
    w = w.reshape(side, stride, side, stride, channels, features).transpose(0, 1, 3, 4, 2, 5)
    w = w.reshape(side, stride * stride * channels, side * features)
    out = 0.0
    for i in range(side):
        products = x[:, i : i + rows] @ w[i]
        products = products.reshape(*products.shape[:-1], side, features)
        out += sum(products[:, :, j : j + columns, j] for j in range(side))
    return out


def _blocks(x: Array, size: int, rows: int, columns: int) -> Array:
    """[N, H, W, C] -> [N, rows, columns, size * size * C]: the pixels of each block side by side."""
    if size == 1:
        return x
    n, _, _, channels = x.shape
    x = x[:, : rows * size, : columns * size].reshape(n, rows, size, columns, size, channels)
    return jnp.swapaxes(x, 2, 3).reshape(n, rows, columns, -1)


def max_pool(x: Array) -> Array:
    """[N, H, W, C] -> [N, ceil(H / 2), ceil(W / 2), C]: the largest of 3x3 pixels, by steps of 2, padding "SAME".

    Of equal pixels the first one moves the result, in the gradient and along a direction alike. XLA's windows take the
    first for a gradient and, on images of even sides, another one for a direction: where pixels are equal, as in much
    of an Atari screen, the two derivatives are not each other's transpose, and a Hessian-vector product is of no
    function. On a CPU theirs are also slow: a gradient takes 3.1 and forward-over-reverse 2.5 times as long as here,
    and two to three times the memory.
    """
    return _pool(_pool(x, axis=2), axis=1)


def _pool(x: Array, axis: int) -> Array:
    """The largest of three neighbours on one axis, by steps of 2."""
    length = x.shape[axis]
    pooled = -(-length // 2)
    missing = 2 * pooled + 1 - length
    padding = [(0, 0, 0)] * x.ndim
    padding[axis] = (missing // 2, missing - missing // 2, 0)
    x = jax.lax.pad(x, jnp.array(-jnp.inf, x.dtype), padding)
    first, second, third = (jax.lax.slice_in_dim(x, i, i + 2 * pooled - 1, 2, axis) for i in range(3))
    return _larger(_larger(first, second), third)


@jax.custom_jvp
def _larger(a: Array, b: Array) -> Array:
    return jnp.maximum(a, b)


@_larger.defjvp
def _larger_moved(given: tuple[Array, Array], moved: tuple[Array, Array]) -> tuple[Array, Array]:
    return _larger(*given), jnp.where(given[1] > given[0], moved[1], moved[0])
