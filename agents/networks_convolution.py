"""Convolution with the arithmetic that the device at hand is quick at, and pooling with derivatives that agree."""

import functools
import math

import jax
import jax.numpy as jnp

from agents.types import Array

# Of a batch of images, in which its products are taken: the gradient of the kernel is then that of each part, added up.
# As one product it is a sum of hundreds of thousands of terms, which XLA on a CPU takes three times as long for.
_PARTS = 16


def convolve(x: Array, w: Array, stride: int, padding: str) -> Array:
    """[N, H, W, C], [K, K, C, D] -> [N, H', W', D] in the type of w; padding "SAME" or "VALID".

    On a CPU, XLA's own convolution is the quickest where nothing is differentiated (acting), and for padded 3x3 kernels
    everywhere. The derivatives of one without padding are quicker by a matrix product (`convolve_by_rows`), with the
    same parameters: docs/performance.md.
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
    """`convolve` without padding, as one matrix product: what a block of `stride` columns shows to a row of results,
    with all columns of the kernel at once; what they give is added up where it belongs.

    That is more arithmetic than there is to do (by 7 % in impala_shallow's forward pass, 15 % in nature's), but pixels
    are copied once for each row of the kernel's blocks only, not for each of its columns, and products are wide.

    Raises:
      ValueError: K is no multiple of the stride.
    """
    side = _blocks(w.shape[0], stride)
    rows, columns = ((length - w.shape[0]) // stride + side for length in x.shape[1:3])  # of blocks
    if stride > 1:
        x = x[:, : rows * stride, : columns * stride]
        x = x.reshape(len(x), rows, stride, columns, stride, -1).swapaxes(2, 3).reshape(len(x), rows, columns, -1)
    x = jnp.concatenate([x[:, i : rows - side + 1 + i] for i in range(side)], axis=-1)
    return _multiply(x, w.reshape(w.shape[0], side, stride, *w.shape[2:]).transpose(0, 2, 3, 1, 4))


def strips(frames: Array, kernel: int, stride: int) -> Array:
    """[..., H, W] -> [..., H', W' - 1 + kernel / stride, kernel * stride]: what `convolve_strips` multiplies.

    For each row of results the pixels that its kernels cover, in blocks of `stride` columns. A frame is in as many
    stacks as a stack has frames: its strips are made once where they are made before it is stacked, while it is bytes.

    Raises:
      ValueError: the kernel is no multiple of the stride.
    """
    side = _blocks(kernel, stride)
    rows, columns = ((length - kernel) // stride + side for length in frames.shape[-2:])  # of blocks
    x = frames[..., : rows * stride, : columns * stride].reshape(*frames.shape[:-2], rows, stride, columns, stride)
    x = x.swapaxes(-2, -3).reshape(*frames.shape[:-2], rows, columns, stride * stride)
    return jnp.concatenate([x[..., i : rows - side + 1 + i, :, :] for i in range(side)], axis=-1)


def convolve_strips(x: Array, w: Array) -> Array:
    """`convolve_by_rows` of images [N, C, H, W], given as their `strips`: [N, C, ...], [K, K, C, D] -> as there."""
    stride = x.shape[-1] // w.shape[0]
    side = _blocks(w.shape[0], stride)
    x = jnp.moveaxis(x, 1, 3)
    x = x.reshape(*x.shape[:3], -1)
    return _multiply(x, w.reshape(w.shape[0], side, stride, *w.shape[2:]).transpose(3, 0, 2, 1, 4))


def _blocks(kernel: int, stride: int) -> int:
    """How many blocks of `stride` pixels the kernel's side has."""
    if kernel % stride:
        raise ValueError(f"the kernel's side {kernel} is no multiple of the stride {stride}")
    return kernel // stride


def _multiply(x: Array, w: Array) -> Array:
    """[N, H', W' - 1 + side, k], [..., side, D] with k weights in ... -> [N, H', W', D], in the type of w."""
    side, features = w.shape[-2:]
    parts = math.gcd(len(x), _PARTS)
    w = jnp.broadcast_to(w.reshape(-1, side * features).T, (parts, side * features, x.shape[-1]))
    products = jnp.einsum("nmk,nfk->nmf", x.astype(w.dtype).reshape(parts, -1, x.shape[-1]), w)
    products = products.reshape(*x.shape[:-1], side, features)
    columns = x.shape[2] - side + 1
    return sum(products[:, :, j : j + columns, j] for j in range(side))


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
