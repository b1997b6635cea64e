"""Floating-point operations of a computation, counted on its jaxpr.

XLA's own count takes a loop's body once, whatever its length, and knows a program only when it has been compiled.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.interpreters import partial_eval


def count_flops(function: Callable, *args: Any) -> float:
    """Of matrix products and convolutions, a multiplication and an addition each; `args` may be shapes.

    What no output depends on is not counted.
    """
    closed = jax.make_jaxpr(function)(*args)
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return _of_jaxpr(jaxpr)


def _of_jaxpr(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            length = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * math.prod(equation.outvars[0].aval.shape) * length
        elif equation.primitive.name == "conv_general_dilated":
            total += _of_convolution(equation)
        inner = sum(_of_jaxpr(getattr(sub, "jaxpr", sub)) for sub in _sub_jaxprs(equation.params))
        total += inner * (equation.params["length"] if equation.primitive.name == "scan" else 1)
    return total


def _of_convolution(equation: Any) -> float:
    """Zeros between a dilated input's pixels are not multiplied."""
    params, kernel = equation.params, equation.invars[1].aval.shape
    taps = math.prod(kernel[axis] for axis in params["dimension_numbers"].rhs_spec[1:])
    return 2 * math.prod(equation.outvars[0].aval.shape) * taps / math.prod(params["lhs_dilation"])


def _sub_jaxprs(params: dict[str, Any]) -> list[Any]:
    found = []
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else [value]:
            if hasattr(item, "eqns") or hasattr(getattr(item, "jaxpr", None), "eqns"):
                found.append(item)
    return found
