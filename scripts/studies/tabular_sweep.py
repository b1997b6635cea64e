"""Sweeps of meta-gradients on random MDPs: how each estimate compares with the exact one, MDP by MDP."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from configs.tree import override
from scripts.intervals import Interval, draw_interval, interval, jackknife
from scripts.studies.base import Cell, Row
from scripts.studies.tabular import EXACT, NOTHING_REUSED, Exact, Memory, Tabular, tabular

LETTERS = ("lee", "ele", "eel", "lle", "lel", "ell", "lll")  # inner, Hessian, outer: l learned from samples, e exact
SINGLE = ("lee", "ele", "eel")  # one estimate from samples, the others exact
EACH = (*SINGLE, "lll")
NAMES = {"plain": "plain (AD)", "lvc": "LVC", "loaded_dice": "Loaded DiCE", "dice": "DiCE"}
STREAMS_AT_ONCE = 8_192  # episodes side by side

compiled = functools.cache(Tabular)  # equal estimators are compiled once


class Point(NamedTuple):
    """What one compiled program estimates."""

    agent: str
    surrogate: str
    samples: int  # new episodes in each batch
    steps: int  # K
    rates: tuple[float, ...]
    letters: tuple[str, ...]
    tasks: int
    repeats: int
    memory: Memory = NOTHING_REUSED


def cells(points: dict[str, Point]) -> list[Cell]:
    return [Cell(name, point) for name, point in points.items()]


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """A row for each rate, each choice of letters and each MDP (see `compare`)."""
    del out
    point = cell.content
    settings = {"inner.surrogate": point.surrogate, "streams": point.samples, "window": point.steps}
    # The DiCE of Liu et al. has no critic.
    noise = None if point.surrogate == "dice" else 1.0
    tell(f"{cell.name}: compiling", 0.0)
    estimator = compiled(override(tabular(point.agent), settings), critic_noise=noise, memory=point.memory)
    episodes = point.samples + point.memory.episodes
    rows, chunk = [], max(1, min(point.repeats, STREAMS_AT_ONCE // episodes))
    for index, rate in enumerate(point.rates):
        exact = estimates(estimator, point.tasks, 1, EXACT, rate, chunk)
        for letters in point.letters:
            tell(f"{cell.name}, {letters} at rate {rate:g}", index / len(point.rates))
            found = estimates(estimator, point.tasks, point.repeats, Exact.named(letters), rate, chunk)
            rows += [
                {
                    "surrogate": point.surrogate,
                    "samples": point.samples,
                    "remembered": point.memory.episodes,
                    "spread": point.memory.spread,
                    "steps": point.steps,
                    "rate": rate,
                    "letters": letters,
                    "task": task,
                }
                | compare(found[0][task], exact[0][task, 0])
                | {"inner_error": float(np.mean(np.linalg.norm(found[1][task] - exact[1][task, 0], axis=1)))}
                for task in range(point.tasks)
            ]
    return rows


def estimates(
    estimator: Tabular, tasks: int, repeats: int, exact: Exact, rate: float, chunk: int, error: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Meta-gradients [tasks, repeats, d] and policies behind the updates [tasks, repeats, S · A]; `chunk` of them at
    once, for any number of repeats, so that one program does them all. `error`: of the Hessian, see
    `Tabular.estimate`."""
    mdps, parts = estimator.tasks(tasks), []
    for first in range(0, repeats, chunk):
        seeds = jnp.arange(first, first + chunk)
        keys = jax.vmap(jax.random.key)(seeds)
        found = estimator.many(mdps, keys, exact, jnp.float32(rate), None if error is None else jnp.float32(error))
        parts.append(jax.tree.map(np.asarray, found))
    gradient, policy = (np.concatenate(leaves, axis=1)[:, :repeats] for leaves in zip(*parts, strict=True))
    return gradient.astype(np.float64), policy.reshape(*policy.shape[:2], -1).astype(np.float64)


def compare(estimates: np.ndarray, exact: np.ndarray) -> Row:
    """How estimates [n, d] of one MDP's meta-gradient stand to the exact one [d].

    correlation: Pearson's over the coordinates, mean over estimates; deviations: sum of the coordinates' standard
    deviations (what Liu et al. call variance); variance: their sum; squared_bias: see
    there; squared_norm: of the exact one.
    """
    variance = estimates.var(axis=0, ddof=1)
    centred, target = estimates - estimates.mean(axis=1, keepdims=True), exact - exact.mean()
    norms = np.linalg.norm(centred, axis=1) * np.linalg.norm(target)
    return {
        "correlation": float(np.mean(centred @ target / norms)),
        "deviations": float(np.sqrt(variance).sum()),
        "variance": float(variance.sum()),
        "squared_bias": squared_bias(estimates - exact),
        "squared_norm": float(exact @ exact),
    }


def squared_bias(errors: np.ndarray) -> float:
    """Squared norm of the mean of errors [n, d], less what their variance adds to it."""
    mean = errors.mean(axis=0)
    return float(mean @ mean - errors.var(axis=0, ddof=1).sum() / len(errors))


def by_task(rows: Sequence[Row], column: str, **where: float | str) -> np.ndarray:
    """[tasks] of a column, of the rows that have these values."""
    own = [row for row in rows if all(row[name] == value for name, value in where.items())]
    return np.array([row[column] for row in sorted(own, key=lambda row: row["task"])])


def present(rows: Sequence[Row], column: str) -> list:
    """The values that a column has, in order."""
    return sorted({row[column] for row in rows})


def table(rows: Sequence[Row], column: str, value: str) -> tuple[np.ndarray, np.ndarray]:
    """Values of a column, and [tasks, of these] another column."""
    at = present(rows, column)
    return np.array(at), np.stack([by_task(rows, value, **{column: x}) for x in at], axis=1)


def slopes(rows: Sequence[Row], column: str, value: str, claims: int = 1) -> Interval:
    """Of log value against log column, MDP by MDP; of several `claims` of a kind: see `is_above`."""
    at, found = table(rows, column, value)
    return interval(np.polyfit(np.log(at), np.log(found).T, 1)[0], 1 - 0.05 / claims)


def bias_slope(rows: Sequence[Row], column: str, value: str = "squared_bias", claims: int = 1) -> Interval | None:
    """Of the log of the meta-gradient's bias, pooled over MDPs (jackknife); None where noise hides the bias.

    Of several `claims` of a kind: see `is_above`.
    """
    at, squares = table(rows, column, value)

    def slope(pooled: np.ndarray) -> float:
        return np.polyfit(np.log(at), 0.5 * np.log(pooled), 1)[0]

    total = squares.sum(axis=0)
    if min((total - task).min() for task in squares) <= 0:
        return None
    return jackknife(slope, squares, 1 - 0.05 / claims)


def draw_line(axis: Any, rows: Sequence[Row], column: str, label: str, **where: float | str) -> None:
    """Mean correlation over MDPs, with its 95 % interval, against a column."""
    at = present(rows, column)
    found = np.stack([by_task(rows, "correlation", **where, **{column: x}) for x in at])
    draw_interval(axis, at, found, label, marker="o", markersize=3)
