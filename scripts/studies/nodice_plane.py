"""Bias and variance of estimators on No DICE's bandit at points of η: cells, summaries and verdicts of its studies."""

import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import stats

from configs.tree import override
from scripts.figure import panels
from scripts.intervals import interval
from scripts.studies.base import Cell, Figure, Row, Verdict
from scripts.studies.bias_variance import Problem, estimator, finite_differences
from scripts.studies.nodice import NAMES, UPDATES, bandit

LAMBDAS = (0.0, 0.2, 0.6, 1.0)
WINDOWS = {"smoke": (1, 2), "small": (1, 8, 22, UPDATES), "paper": (1, 8, 22, UPDATES)}
EPS = 0.2
REFERENCE = "truth"
ADDS_BIAS = "our reading: Hessian estimation always adds bias, so that untruncated DiCE is more biased than naive"
OFF_THE_FRONTIER = "untruncated, DiCE alone is off the Pareto frontier: some λ is less biased at its variance"
GROUPS = 20  # of lives, where nothing else is said: the spread over them gives intervals


class Plane(NamedTuple):
    """One program: an estimator, at every point of a grid of η."""

    settings: dict[str, Any] | None  # None: the truth
    life: int  # updates
    grid: tuple[float, ...]  # of each raw rate
    samples: int  # lives at each point
    groups: int


def plane_cells(
    scale: str, grid: tuple[float, ...], samples: int, further: dict[str, dict[str, Any]], groups: int = GROUPS
) -> list[Cell]:
    """The truth, every window at all λ, and further estimators."""
    windows = {f"T={window}": {"window": window} for window in WINDOWS[scale]}
    found = {REFERENCE: None} | windows | further
    return [Cell(name, Plane(settings, WINDOWS[scale][-1], grid, samples, groups)) for name, settings in found.items()]


def run_plane(cell: Cell, tell: Callable[[str, float], None]) -> list[Row]:
    """At every point of η: mean and variance of one life's estimate, and how it spreads about the truth, by group."""
    settings, life, grid, samples, groups = cell.content
    problem = _problem(life)
    rows: list[Row] = []
    points = list(itertools.product(grid, grid))
    if settings is None:
        samplers = {}
    elif len(settings) > 1:
        samplers = {cell.name: estimator(problem, settings)}
    else:
        weights = (0, 1) if settings["window"] > 1 else (0,)  # at T = 1 no batch lies between: λ has nothing to act on
        samplers = {f"{cell.name} λ={w}": estimator(problem, settings | {"correction": float(w)}) for w in weights}
    for index, (early, late) in enumerate(points):
        tell(f"{cell.name}, point {index + 1} of {len(points)}", index / len(points))
        truth = _truth(life, early, late, samples)
        values = {name: sample({"early": early, "late": late}, samples) for name, sample in samplers.items()}
        values = values or {cell.name: truth}
        if len(values) == 2:
            # Linear in λ, and the seeds are the same: life by life, all in between follow from the ends.
            (none, full) = values.values()
            values = {f"{cell.name} λ={weight:g}": none + weight * (full - none) for weight in LAMBDAS}
        rows += [
            {"estimator": name, "early": early, "late": late, "group": group} | _summary(*parts)
            for name, value in values.items()
            for group, parts in enumerate(zip(*(np.array_split(x, groups) for x in (value, truth)), strict=True))
        ]
    return rows


def _problem(life: int) -> Problem:
    return Problem(override(bandit(), {"window": life}))


@functools.cache
def _truth(life: int, early: float, late: float, samples: int) -> np.ndarray:
    """[samples, 2] finite differences, made once for all cells of a process."""
    return finite_differences(_problem(life), EPS)({"early": early, "late": late}, samples)


def _summary(values: np.ndarray, truth: np.ndarray) -> Row:
    means = {f"mean_{name}": values[:, i].mean() for i, name in enumerate(NAMES)}
    spreads = {f"spread_{name}": (values - truth)[:, i].var(ddof=1) for i, name in enumerate(NAMES)}
    return means | spreads | {"variance": values.var(axis=0, ddof=1).sum(), "lives": len(values)}


class Summary(NamedTuple):
    """One estimator, by group of lives; the groups of all estimators are the same lives."""

    mean: np.ndarray  # [groups, points, 2]
    truth: np.ndarray  # [groups, points, 2] finite differences on the same lives
    variance: np.ndarray  # [groups] of one life's estimate, mean over points of η
    error: np.ndarray | None  # [points, 2] standard error of mean - truth, from the spread over lives

    @property
    def squared_bias(self) -> np.ndarray:
        """[groups] jackknife values, whose mean is the squared bias (over points and rates) less what noise adds."""

        def estimate(mean: np.ndarray, truth: np.ndarray) -> float:
            difference = mean - truth
            return np.mean(difference.mean(axis=0) ** 2 - difference.var(axis=0, ddof=1) / len(difference))

        return self._jackknife(estimate)

    @property
    def norm(self) -> np.ndarray:
        """[groups] jackknife values of the norm of the mean, of the truth's, mean over points."""

        def estimate(mean: np.ndarray, truth: np.ndarray) -> float:
            return np.mean(np.linalg.norm(mean.mean(axis=0), axis=1) / np.linalg.norm(truth.mean(axis=0), axis=1))

        return self._jackknife(estimate)

    @property
    def cosine(self) -> np.ndarray:
        """[groups] jackknife values of the cosine of the mean with the truth, mean over points."""

        def estimate(mean: np.ndarray, truth: np.ndarray) -> float:
            mean, truth = mean.mean(axis=0), truth.mean(axis=0)
            norms = np.linalg.norm(mean, axis=1) * np.linalg.norm(truth, axis=1)
            return np.mean(np.sum(mean * truth, axis=1) / norms)

        return self._jackknife(estimate)

    def points(self) -> list["Summary"]:
        """The same at each point of η; of the variance only the mean over points is known."""
        means = zip(*(np.split(x, x.shape[1], axis=1) for x in (self.mean, self.truth)), strict=True)
        return [Summary(mean, truth, self.variance, None) for mean, truth in means]

    def _jackknife(self, estimate: Callable[[np.ndarray, np.ndarray], float]) -> np.ndarray:
        groups = len(self.mean)
        if groups < 3:
            return np.full(groups, np.nan)  # without one of two, nothing tells noise from bias
        without = np.array(
            [estimate(*(np.delete(x, g, axis=0) for x in (self.mean, self.truth))) for g in range(groups)]
        )
        return groups * estimate(self.mean, self.truth) - (groups - 1) * without


def at_variance(none: Summary, full: Summary, variances: Sequence[tuple[float, float]], variance: float) -> Summary:
    """The estimate at that λ in [0, 1] that has this variance; `variances` are (λ, variance) of at least three λ.

    Each life's estimate is linear in λ, so its variance is quadratic, and nothing of this is approximate.
    """
    low, slope, curve = np.polynomial.Polynomial.fit(*np.transpose(variances), 2).convert().coef
    roots = np.roots([curve, slope, low - variance])
    weight = float(np.clip(np.real(roots[np.argmin(np.abs(roots - 0.5))]), 0.0, 1.0))
    return Summary(none.mean + weight * (full.mean - none.mean), none.truth, np.full(len(none.mean), variance), None)


def summaries(rows: Sequence[Row]) -> dict[str, Summary]:
    """By estimator, in the order of the table."""
    rows = [row for row in rows if row.get("estimator", "") != ""]
    names = list(dict.fromkeys(row["estimator"] for row in rows))
    points = sorted({(row["early"], row["late"]) for row in rows})
    groups = sorted({row["group"] for row in rows})
    cells = {(row["estimator"], row["group"], row["early"], row["late"]): row for row in rows}

    def table(name: str, columns: Sequence[str]) -> np.ndarray:
        return np.array([[[cells[name, g, *p][c] for c in columns] for p in points] for g in groups])

    def summary(name: str) -> Summary:
        spread, lives = table(name, [f"spread_{n}" for n in NAMES]), table(name, ["lives"])
        variance = table(name, ["variance"])[..., 0].mean(axis=1)
        return Summary(table(name, means), truth, variance, np.sqrt(spread.mean(axis=0) / lives.sum(axis=0)))

    means = [f"mean_{name}" for name in NAMES]
    truth = table(REFERENCE, means)
    return {name: summary(name) for name in names if name != REFERENCE}


def windows_of(found: dict[str, Summary]) -> list[int]:
    return sorted({int(name.split()[0][2:]) for name in found if name.startswith("T=")})


def all_above(claim: str, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Verdict:
    """Each first of a pair above its second: by intervals over groups of lives that hold for all pairs together."""
    found = [interval(high - low, 1 - 0.05 / len(pairs)) for high, low in pairs]
    if not found:
        return Verdict(claim, "nothing to compare", "undecided")
    held, broken = sum(f.low > 0 for f in found), sum(f.high < 0 for f in found)
    verdict = "disagree" if broken else "agree" if held == len(found) else "undecided"
    return Verdict(claim, f"{held} of {len(found)} steps hold, {broken} are the other way (95 %, Bonferroni)", verdict)


def is_more_biased(claim: str, found: dict[str, Summary], name: str, window: int, claims: int = 1) -> Verdict:
    """Whether an estimate has more squared bias than the λ of the same variance has, in windows of this length.

    Of several `claims`: intervals hold for all together (Bonferroni).
    """
    curve = {weight: found[f"T={window} λ={weight:g}"] for weight in LAMBDAS}
    variances = [(weight, summary.variance.mean()) for weight, summary in curve.items()]
    same = at_variance(curve[0.0], curve[1.0], variances, found[name].variance.mean())
    difference = interval(found[name].squared_bias - same.squared_bias, 1 - 0.05 / claims)
    verdict = "agree" if difference.low > 0 else "disagree" if difference.high < 0 else "undecided"
    measured = f"{interval(found[name].squared_bias)} against {interval(same.squared_bias)}; difference {difference}"
    return Verdict(claim, measured, verdict)


def no_bias(claim: str, own: Summary, control: Summary) -> Verdict:
    """Whether no bias is significant, though wherever that of `control` is, which is biased, one of its size would be.

    The deviation in standard errors over lives (thousands, so normal) for each point and rate, at 5 % for all together
    (Bonferroni). The squared bias would not do: near zero its estimate is far from normal, and its interval too narrow.
    Nor would the spread over a few groups, the smallest of which decides.
    """

    def bias_and_error(summary: Summary) -> tuple[np.ndarray, np.ndarray]:
        difference = (summary.mean - summary.truth).reshape(len(summary.mean), -1)
        return np.abs(difference.mean(axis=0)), summary.error.ravel()

    def deviation(bias: np.ndarray, error: np.ndarray) -> np.ndarray:
        return np.divide(bias, error, out=np.zeros_like(bias), where=error > 0)  # nothing in a life depends on a rate

    (bias, error), (control_bias, control_error) = bias_and_error(own), bias_and_error(control)
    found, seen = deviation(bias, error), deviation(control_bias, control_error)
    limit = float(stats.norm.ppf(1 - 0.025 / len(found)))
    size = np.abs(own.truth.mean(axis=0)).mean()
    below, biased = (found + limit) * error, seen > limit  # of the bias, at 95 %
    resolved = (below < control_bias)[biased]
    verdict = "disagree" if found.max() > limit else "agree" if biased.any() and resolved.all() else "undecided"
    measured = (
        f"largest |z| {found.max():.2f} of {len(found)} (each rate at each point of η), limit {limit:.2f}; without"
        f" correction {biased.sum()} biases are significant, up to {seen.max():.1f} standard errors and"
        f" {control_bias.max() / size:.0%} of the mean gradient; one as large would be here, too, in {resolved.sum()}"
        f" of them; variance {interval(own.variance)}"
    )
    return Verdict(claim, measured, verdict)


def is_biased(claim: str, own: Summary, control: Summary) -> Verdict:
    """Whether a bias is significant; "disagree" where none is, though one of the size of that of `control` would be."""
    unbiased = no_bias(claim, own, control)
    opposite: dict[str, Literal["agree", "disagree"]] = {"agree": "disagree", "disagree": "agree"}
    return unbiased._replace(verdict=opposite.get(unbiased.verdict, "undecided"))


def draw_plane(axes: Any, found: dict[str, Summary], height: Callable[[Summary], np.ndarray], label: str) -> None:
    """A line along λ for each window, a mark for every other estimator but those with α (crosses)."""
    lines = {
        f"T={window}": [name for name in found if f"{name} ".startswith(f"T={window} λ")]
        for window in windows_of(found)
    }
    alphas = [name for name in found if "α" in name]
    others = [name for name in found if not name.startswith("T=")]
    for index, (group, names) in enumerate([*lines.items(), *((name, [name]) for name in others)]):
        points = [(found[name].variance.mean(), height(found[name]).mean()) for name in names]
        axes.plot(*np.array(points).T, marker="os^vDP*X"[max(0, index - len(lines) + 1)], label=group)
    if alphas:
        points = [(found[name].variance.mean(), height(found[name]).mean()) for name in alphas]
        axes.plot(*np.array(points).T, "kx", markersize=5, label="λ = 1, α < 1")
    axes.set(xscale="log", xlabel="variance of one life's estimate", ylabel=label)
    axes.legend()


def draw_points(rows: Sequence[Row], out: Path) -> Figure:
    """points.png: a plane of squared bias for each point of η."""
    points = sorted({(row["early"], row["late"]) for row in rows if row.get("estimator", "") != ""})
    with panels(out / "points.png", len(points), rows=-(-len(points) // 2)) as axes:
        for axis, point in zip(axes, points, strict=True):
            here = summaries([row for row in rows if (row["early"], row["late"]) == point])
            draw_plane(axis, here, lambda s: s.squared_bias, "squared bias")
            axis.set_title(f"raw η = {point}")
            axis.set_yscale("symlog", linthresh=1e-4)
    return Figure("points.png", "The same plane at each point of η; below 0: none is left once noise is subtracted")
