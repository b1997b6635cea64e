"""Learned rules as files: η of an agent whose rule is a network (LPG), to be used by other lives."""

import zipfile
from pathlib import Path

import numpy as np

from agents.config import LPGConfig

Rule = dict[str, dict[str, np.ndarray]]  # haiku's: module, then name

_BETWEEN = "|"  # a module's name has slashes


def save_rule(path: str | Path, meta_params: Rule) -> None:
    """Writes `meta_params`, {module: {name: array}}, to a .npz file."""
    arrays = {_BETWEEN.join((m, n)): np.asarray(x) for m, leaves in meta_params.items() for n, x in leaves.items()}
    with Path(path).open("wb") as file:
        np.savez(file, **arrays)


def rule_shapes(config: LPGConfig) -> dict[str, tuple[int, ...]]:
    """Shapes that tell rules of other sizes apart (names as haiku gives them to `networks_meta.rule_network`)."""
    return {
        "target|w": (config.hidden, config.predictions),
        "policy|w": (config.hidden, 1),
        "embed/~/linear_0|w": (config.predictions, config.embedding),
    }


def load_rule(path: str | Path, shapes: dict[str, tuple[int, ...]]) -> Rule:
    """Reads what `save_rule` wrote. `shapes` says what some of its arrays ("module|name") must be like.

    Raises ValueError, one line, where the file cannot be read or is of a rule of other sizes.
    """
    try:
        with np.load(path) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{str(path)!r} holds no rule ({' '.join(str(error).split())[:100]})") from None
    for name, shape in shapes.items():
        if name not in arrays or arrays[name].shape != shape:
            found = arrays[name].shape if name in arrays else "none"
            raise ValueError(f"{str(path)!r} holds another rule: {name} is {found}, and should be {shape}")
    rule: Rule = {}
    for name, array in arrays.items():
        module, _, leaf = name.partition(_BETWEEN)
        rule.setdefault(module, {})[leaf] = array
    return rule
