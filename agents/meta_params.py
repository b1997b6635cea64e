"""Meta-parameters η: names, bounds, bijectors and starting values."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from agents.types import Array


class MetaParameter(NamedTuple):
    """One self-tuned scalar: value = bound · sigmoid(raw) (Zahavy et al. 2020, Section 3.1)."""

    name: str
    bound: float
    raw_init: float


def init(specs: Sequence[MetaParameter]) -> dict[str, Array]:
    """Raw starting values by name, scalars."""
    return {spec.name: jnp.asarray(spec.raw_init, float) for spec in specs}


def values(specs: Sequence[MetaParameter], raw: Mapping[str, Array]) -> dict[str, Array]:
    """Raw values -> values in their own units, of the same shapes."""
    return {spec.name: spec.bound * jax.nn.sigmoid(raw[spec.name]) for spec in specs}
