"""No DICE, Figures 2 (left) and 5: bias and variance of the estimators on the bandit, truncated and not."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agents.config import InnerLossConfig, OuterLossConfig
from configs.experiment import ExperimentConfig
from configs.presets import preset
from configs.tree import override
from learner.config import InnerOptimizerConfig, MetaGradientConfig, MetaOptimizerConfig
from scripts.figure import panels
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.bias_variance import Problem, estimator, finite_differences
from scripts.studies.statistics import interval

UPDATES = 29  # a life is 30 batches of 10 pulls
WINDOWS = {"smoke": (1, 2), "small": (1, 8, 22, UPDATES), "paper": (1, 8, 22, UPDATES)}
LAMBDAS, ALPHAS = (0.0, 0.2, 0.6, 1.0), (0.5, 0.8, 0.95)
GRID = {"smoke": (2.0,), "small": (1.0, 2.5, 4.0), "paper": (1.0, 1.75, 2.5, 3.25, 4.0)}
SAMPLES = {"smoke": 200, "small": 4_000, "paper": 2_000_000}
ALPHA_WINDOWS = {"smoke": (2,), "small": (UPDATES,), "paper": (8, 22, UPDATES)}
EPS = 0.2
REFERENCE, DICE, BASELINE = "finite differences", "DiCE", "λ=1 with a baseline"
GROUPS = 20  # of lives: the spread over them gives every interval
NAMES = ("early", "late")


def bandit() -> ExperimentConfig:
    """No DICE's bandit with the whole life as its window (Vuorio et al. 2021, Appendix B)."""
    return dataclasses.replace(
        preset("smoke"),
        agent="bandit",
        game="bandit",
        streams=10,
        unroll=1,
        window=UPDATES,
        lag="0",
        correction=0.0,
        inner=InnerLossConfig(reward_clip=0.0, reduction="mean"),
        outer=OuterLossConfig(kl_weight=0.0),
        optimizer=InnerOptimizerConfig(name="sgd", learning_rate=1.0, anneal=False, max_grad_norm=0.0),
        meta_optimizer=MetaOptimizerConfig(name="sgd", learning_rate=0.0),
        meta_gradient=MetaGradientConfig(objective="all", baseline="none"),
    )


def _cells(scale: str, seeds: int) -> list[Cell]:
    """One cell for each program that has to be compiled."""
    del seeds
    found = {REFERENCE: None}
    for window in WINDOWS[scale]:
        found[f"T={window}"] = {"window": window}
    for window, decay in itertools.product(ALPHA_WINDOWS[scale], ALPHAS[: 1 if scale == "smoke" else None]):
        found[f"T={window} α={decay:g}"] = {"window": window, "correction": 1.0, "correction_discount": decay}
    longest = {"window": WINDOWS[scale][-1], "correction": 1.0}
    found[BASELINE] = longest | {"meta_gradient.baseline": "running_mean"}
    found[DICE] = {"inner.surrogate": "dice", "window": WINDOWS[scale][-1]}
    return [Cell(name, (settings, WINDOWS[scale][-1], GRID[scale], SAMPLES[scale])) for name, settings in found.items()]


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """At every point of η: mean, standard error and variance of one life's estimate."""
    del out
    settings, life, grid, samples = cell.content
    problem = Problem(override(bandit(), {"window": life}))
    rows: list[Row] = []
    points = list(itertools.product(grid, grid))
    if settings is None:
        samplers = {cell.name: finite_differences(problem, EPS)}
    elif len(settings) > 1:
        samplers = {cell.name: estimator(problem, settings)}
    else:
        weights = (0, 1) if settings["window"] > 1 else (0,)  # at T = 1 no batch lies between: λ has nothing to act on
        samplers = {f"{cell.name} λ={w}": estimator(problem, settings | {"correction": float(w)}) for w in weights}
    for index, (early, late) in enumerate(points):
        tell(f"{cell.name}, point {index + 1} of {len(points)}", index / len(points))
        values = {name: sample({"early": early, "late": late}, samples) for name, sample in samplers.items()}
        if len(values) == 2:
            # Linear in λ, and the seeds are the same: life by life, all in between follow from the ends.
            (none, full) = values.values()
            values = {f"{cell.name} λ={weight:g}": none + weight * (full - none) for weight in LAMBDAS}
        rows += [
            {"estimator": name, "early": early, "late": late, "group": group} | _summary(part)
            for name, value in values.items()
            for group, part in enumerate(np.array_split(value, GROUPS))
        ]
    return rows


def _summary(values: np.ndarray) -> Row:
    means = {f"mean_{name}": values[:, i].mean() for i, name in enumerate(NAMES)}
    return means | {"variance": values.var(axis=0, ddof=1).sum()}


class Summary(NamedTuple):
    """One estimator, by group of lives; the groups of all estimators are the same lives."""

    mean: np.ndarray  # [groups, points, 2]
    truth: np.ndarray  # [groups, points, 2] finite differences on the same lives
    variance: np.ndarray  # [groups] of one life's estimate, mean over points of η

    @property
    def squared_bias(self) -> np.ndarray:
        """[groups] jackknife values, whose mean is the squared bias (over points and rates) less what noise adds."""
        difference = self.mean - self.truth

        def estimate(values: np.ndarray) -> float:
            return np.mean(values.mean(axis=0) ** 2 - values.var(axis=0, ddof=1) / len(values))

        groups = len(difference)
        without = np.array([estimate(np.delete(difference, g, axis=0)) for g in range(groups)])
        return groups * estimate(difference) - (groups - 1) * without

    @property
    def cosine(self) -> float:
        """Of the mean with the truth, mean over points."""
        mean, truth = self.mean.mean(axis=0), self.truth.mean(axis=0)
        norms = np.linalg.norm(mean, axis=1) * np.linalg.norm(truth, axis=1)
        return float(np.mean(np.sum(mean * truth, axis=1) / norms))


def summaries(rows: Sequence[Row]) -> dict[str, Summary]:
    """By estimator, in the order of the table."""
    names = list(dict.fromkeys(row["estimator"] for row in rows))
    points = sorted({(row["early"], row["late"]) for row in rows})
    cells = {(row["estimator"], row["group"], row["early"], row["late"]): row for row in rows}

    def table(name: str, columns: Sequence[str]) -> np.ndarray:
        return np.array([[[cells[name, g, *p][c] for c in columns] for p in points] for g in range(GROUPS)])

    means = [f"mean_{name}" for name in NAMES]
    truth = table(REFERENCE, means)
    return {
        name: Summary(table(name, means), truth, table(name, ["variance"])[..., 0].mean(axis=1))
        for name in names
        if name != REFERENCE
    }


def judge(rows: Sequence[Row]) -> list[Verdict]:
    found = summaries(rows)
    windows = _windows(found)
    longest = f"T={windows[-1]}"
    steps = [(w, a, b) for w in windows[1:] for a, b in itertools.pairwise(LAMBDAS)]
    verdicts = [
        _all_above(
            "squared bias falls with λ at every truncation",
            [(found[f"T={w} λ={a:g}"].squared_bias, found[f"T={w} λ={b:g}"].squared_bias) for w, a, b in steps],
        ),
        _all_above(
            "variance rises with λ at every truncation",
            [(found[f"T={w} λ={b:g}"].variance, found[f"T={w} λ={a:g}"].variance) for w, a, b in steps],
        ),
        _all_above(
            "variance at λ = 1 rises with the window",
            [(found[f"T={b} λ=1"].variance, found[f"T={a} λ=1"].variance) for a, b in itertools.pairwise(windows[1:])],
        ),
    ]
    ratio = interval(np.log10(found[f"{longest} λ=1"].variance / found[f"{longest} λ=0"].variance))
    inside = (
        "agree" if ratio.low > 2 and ratio.high < 3 else "disagree" if ratio.high < 2 or ratio.low > 3 else "undecided"
    )
    claim = f"{longest}: λ = 1 has two to three orders of magnitude the variance of λ = 0"
    verdicts.append(Verdict(claim, f"10^{ratio}", inside))
    truth = found[f"{longest} λ=1"].truth.mean(axis=0)
    margin = 0.01 * float(np.mean(truth**2))  # a tenth of the gradient
    for name in (f"{longest} λ=1", BASELINE):
        bias = interval(found[name].squared_bias)
        verdict = "agree" if bias.high < margin else "disagree" if bias.low > margin else "undecided"
        claim = f"untruncated, {name} is unbiased (squared bias below {margin:.2g}, that of a tenth of the gradient)"
        verdicts.append(Verdict(claim, f"squared bias {bias}", verdict))
    less = [(found[f"{longest} λ=1"].variance, found[BASELINE].variance)]
    verdicts.append(_all_above("our own: a running mean of returns as baseline cuts the variance of λ = 1", less))
    return verdicts


def _all_above(claim: str, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Verdict:
    """Each first of a pair above its second: by intervals over groups of lives that hold for all pairs together."""
    found = [interval(high - low, 1 - 0.05 / len(pairs)) for high, low in pairs]
    if not found:
        return Verdict(claim, "nothing to compare", "undecided")
    held, broken = sum(f.low > 0 for f in found), sum(f.high < 0 for f in found)
    verdict = "disagree" if broken else "agree" if held == len(found) else "undecided"
    return Verdict(claim, f"{held} of {len(found)} steps hold, {broken} are the other way (95 %, Bonferroni)", verdict)


def _windows(found: dict[str, Summary]) -> list[int]:
    return sorted({int(name.split()[0][2:]) for name in found if name.startswith("T=")})


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    found = summaries(rows)
    with panels(out / "plane.png", 2) as axes:
        for group, marker in [*((f"T={window} ", "o") for window in _windows(found)), (DICE, "s"), (BASELINE, "^")]:
            own = {name: s for name, s in found.items() if f"{name} ".startswith(group) and "α" not in name}
            for axis, height in ((axes[0], lambda s: s.squared_bias.mean()), (axes[1], lambda s: s.cosine)):
                points = [(s.variance.mean(), height(s)) for s in own.values()]
                axis.plot(*np.array(points).T, marker=marker, label=group.strip())
        for name, summary in found.items():
            if "α" in name:
                axes[0].plot(summary.variance.mean(), summary.squared_bias.mean(), "kx", markersize=5)
        axes[0].plot([], [], "kx", markersize=5, label="λ = 1, α < 1")
        axes[0].set(xscale="log", xlabel="variance of one life's estimate", ylabel="squared bias")
        axes[1].set(xscale="log", xlabel="variance of one life's estimate", ylabel="cosine with the truth")
        axes[0].legend()
    return [
        Figure("plane.png", "Along each line λ rises from left to right (0, 0.2, 0.6, 1); means over the points of η")
    ]


def setting(scale: str) -> str:
    points = ", ".join(map(str, GRID[scale]))
    return (
        f"30 arms, a life of {WINDOWS[scale][-1] + 1} batches of 10 pulls, two learning rates; T is the window in"
        f" updates. Raw η: each of the two in {points}. {SAMPLES[scale]:,} lives for each estimator and point, the same"
        f" for all; truth by central differences of width {EPS} with common random numbers, on the same lives;"
        f" intervals over {GROUPS} groups of lives. As in the paper the correction has no baseline, but for one arm."
    )


STUDY = Study(
    title="No DICE, Figures 2 (left) and 5: the bias-variance plane of the bandit",
    question=(
        "Vuorio et al. 2021: the sampling correction trades bias against variance; λ and α move along that curve, and"
        " so do longer windows; untruncated with λ = 1 the meta-gradient is unbiased."
    ),
    minutes={"smoke": "1 min", "small": "not measured", "paper": "not measured"},
    seeds={},
    cells=_cells,
    run=run,
    judge=judge,
    draw=draw,
    setting=setting,
)
