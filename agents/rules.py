"""Learned rules as files: η of an agent whose rule is a network (LPG), to be used by other lives."""

import zipfile
from pathlib import Path

import numpy as np

Rule = dict[str, dict[str, np.ndarray]]  # haiku's: module, then name

INPUTS = 4  # of a step: reward, discount, γ, and the probability of the action

_BETWEEN = "|"  # a module's name has slashes


def save_rule(path: str | Path, meta_params: Rule) -> None:
    """Writes `meta_params`, {module: {name: array}}, to a .npz file."""
    arrays = {_BETWEEN.join((m, n)): np.asarray(x) for m, leaves in meta_params.items() for n, x in leaves.items()}
    with Path(path).open("wb") as file:
        np.savez(file, **arrays)


def rule_sizes(rule: Rule) -> dict[str, int]:
    """The sizes of a rule, by their names in `LPGConfig` (modules are named as haiku does: `rule_network`).

    Raises ValueError where these arrays are not a rule's.
    """
    # Here, since settings are checked before anything heavy is imported.
    import jax

    from agents.networks_meta import rule_network

    try:
        hidden, predictions = rule["target"]["w"].shape
        _, embedding = rule["embed/~/linear_0"]["w"].shape
    except (AttributeError, KeyError, ValueError):
        raise ValueError("its arrays are not a rule's") from None
    sizes = {"predictions": predictions, "hidden": hidden, "embedding": embedding}
    made = jax.eval_shape(rule_network(INPUTS, **sizes).init, jax.random.key(0))
    if jax.tree.map(np.shape, rule) != jax.tree.map(np.shape, made):
        raise ValueError("its arrays are not a rule's")
    return sizes


def load_rule(path: str | Path) -> Rule:
    """Reads what `save_rule` wrote. Raises ValueError, one line, where it is missing or holds something else."""
    rule: Rule = {}
    try:
        with Path(path).open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is not a .npz file as `onelife study lpg_grid` writes it")
            file.seek(0)
            for name, array in np.load(file).items():
                module, _, leaf = name.partition(_BETWEEN)
                rule.setdefault(module, {})[leaf] = array
        rule_sizes(rule)
        if not all(np.isfinite(leaf).all() for leaves in rule.values() for leaf in leaves.values()):
            raise ValueError("not all of its numbers are finite")
    except FileNotFoundError:
        raise ValueError(f"{str(path)!r} is missing: there is no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())[:100]
        raise ValueError(f"{str(path)!r} holds no rule: {why}") from None
    return rule
