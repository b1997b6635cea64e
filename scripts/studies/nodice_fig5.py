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
from learner.config import InnerOptimizerConfig, MetaGradientConfig, MetaOptimizerConfig
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.bias_variance import Problem, estimator, finite_differences, standard_error
from scripts.studies.statistics import interval

UPDATES = 29  # a life is 30 batches of 10 pulls
WINDOWS = {"smoke": (1, 3), "small": (1, 8, 22, UPDATES), "paper": (1, 8, 22, UPDATES)}
LAMBDAS, ALPHAS = (0.0, 0.2, 0.6, 1.0), (0.5, 0.8, 0.95)
GRID = {"smoke": (2.0,), "small": (1.0, 2.5, 4.0), "paper": (1.0, 1.75, 2.5, 3.25, 4.0)}
SAMPLES = {"smoke": 200, "small": 4_000, "paper": 2_000_000}
ALPHA_WINDOWS = {"smoke": (3,), "small": (UPDATES,), "paper": (8, 22, UPDATES)}
EPS = 0.2
REFERENCE, DICE = "finite differences", "DiCE"
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
        meta_gradient=MetaGradientConfig(objective="all", baseline_decay=0.999),
    )


def _cells(scale: str, seeds: int) -> list[Cell]:
    """One cell for each program that has to be compiled."""
    del seeds
    found = {REFERENCE: None}
    for window in WINDOWS[scale]:
        found[f"T={window}"] = {"window": window}
    for window, decay in itertools.product(ALPHA_WINDOWS[scale], ALPHAS[: 1 if scale == "smoke" else None]):
        found[f"T={window} α={decay:g}"] = {"window": window, "correction": 1.0, "correction_discount": decay}
    found[DICE] = {"inner.surrogate": "dice", "window": WINDOWS[scale][-1]}
    return [Cell(name, (settings, GRID[scale], SAMPLES[scale])) for name, settings in found.items()]


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """At every point of η: mean, standard error and variance of one life's estimate."""
    del out
    settings, grid, samples = cell.content
    problem = Problem(bandit())
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
        rows += [{"estimator": name, "early": early, "late": late} | _summary(value) for name, value in values.items()]
    return rows


def _summary(values: np.ndarray) -> Row:
    mean, error = values.mean(axis=0), standard_error(values)
    row = {f"mean_{name}": mean[i] for i, name in enumerate(NAMES)} | {
        f"error_{n}": error[i] for i, n in enumerate(NAMES)
    }
    return row | {"variance": values.var(axis=0, ddof=1).sum()}


class Summary(NamedTuple):
    """One estimator over all points of η."""

    squared_bias: np.ndarray  # [points] mean over the two rates, less what noise of both means adds to it
    variance: np.ndarray  # [points]
    cosine: np.ndarray  # [points] of the mean with the reference


def summaries(rows: Sequence[Row]) -> dict[str, Summary]:
    """By estimator, in the order of the table."""
    truth = {(row["early"], row["late"]): row for row in rows if row["cell"] == REFERENCE}
    found: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows:
        if row["cell"] == REFERENCE:
            continue
        true = truth[row["early"], row["late"]]
        mean, reference = (np.array([r[f"mean_{name}"] for name in NAMES]) for r in (row, true))
        noise = np.mean([r[f"error_{name}"] ** 2 for r in (row, true) for name in NAMES]) * 2
        cosine = mean @ reference / (np.linalg.norm(mean) * np.linalg.norm(reference))
        found.setdefault(row["estimator"], []).append(
            (np.mean((mean - reference) ** 2) - noise, row["variance"], cosine)
        )
    return {name: Summary(*np.array(values).T) for name, values in found.items()}


def judge(rows: Sequence[Row]) -> list[Verdict]:
    found = summaries(rows)
    windows = _windows(found)
    longest = f"T={windows[-1]}"
    verdicts = [
        _is_less("squared bias falls with λ at every truncation", [
            (found[f"T={window} λ={b:g}"].squared_bias, found[f"T={window} λ={a:g}"].squared_bias)
            for window in windows[1:] for a, b in itertools.pairwise(LAMBDAS)
        ]),
        _is_less("variance rises with λ at every truncation", [
            (found[f"T={window} λ={a:g}"].variance, found[f"T={window} λ={b:g}"].variance)
            for window in windows[1:] for a, b in itertools.pairwise(LAMBDAS)
        ]),
        _is_less("variance rises with the window at λ = 1", [
            (found[f"T={a} λ=1"].variance, found[f"T={b} λ=1"].variance) for a, b in itertools.pairwise(windows[1:])
        ]),
    ]  # fmt: skip
    ratio = found[f"{longest} λ=1"].variance / found[f"{longest} λ=0"].variance
    verdicts.append(
        Verdict(
            "untruncated, λ = 1 has two to three orders of magnitude the variance of λ = 0",
            f"ratio {np.median(ratio):.3g} (median over η; {ratio.min():.3g} to {ratio.max():.3g})",
            "agree" if 100 <= np.median(ratio) <= 1000 else "disagree",
        )
    )
    bias = interval(found[f"{longest} λ=1"].squared_bias)
    verdicts.append(
        Verdict(
            "untruncated, λ = 1 is unbiased",
            f"squared bias, what noise adds taken off: {bias} (mean over η, 95 %)",
            "agree" if bias.low <= 0 <= bias.high else "disagree",
        )
    )
    return verdicts


def _windows(found: dict[str, Summary]) -> list[int]:
    return sorted({int(name.split()[0][2:]) for name in found if name.startswith("T=")})


def _is_less(claim: str, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Verdict:
    """Each first of a pair below its second in the mean over η, by a sign count."""
    held = [float(a.mean()) < float(b.mean()) for a, b in pairs]
    return Verdict(claim, f"{sum(held)} of {len(held)} steps, means over η", _of(held))


def _of(held: Sequence[bool]) -> str:
    return "undecided" if not held else "agree" if all(held) else "disagree"


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    found = summaries(rows)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for group, marker in [*((f"T={window} ", "o") for window in _windows(found)), (DICE, "s")]:
        own = {name: s for name, s in found.items() if f"{name} ".startswith(group) and "α" not in name}
        for axis, heights in ((axes[0], "squared_bias"), (axes[1], "cosine")):
            points = [(s.variance.mean(), getattr(s, heights).mean()) for s in own.values()]
            axis.plot(*np.array(points).T, marker=marker, label=group.strip())
    for name, summary in found.items():
        if "α" in name:
            axes[0].plot(summary.variance.mean(), summary.squared_bias.mean(), "kx", markersize=5)
    axes[0].plot([], [], "kx", markersize=5, label="λ = 1, α < 1")
    axes[0].set(xscale="log", xlabel="variance of one life's estimate", ylabel="squared bias")
    axes[1].set(xscale="log", xlabel="variance of one life's estimate", ylabel="cosine with the truth")
    axes[0].legend(frameon=False)
    figure.savefig(out / "plane.png", dpi=120)
    plt.close(figure)
    return [
        Figure("plane.png", "Along each line λ rises from left to right (0, 0.2, 0.6, 1); means over the points of η")
    ]


def setting(scale: str) -> str:
    points = ", ".join(map(str, GRID[scale]))
    return (
        "30 arms, a life of 30 batches of 10 pulls, two learning rates; T is the window in updates. Raw η: each of the"
        f" two in {points}. {SAMPLES[scale]:,} lives for each estimator and point, the same for all; truth by central"
        f" differences of width {EPS} with common random numbers. The correction's baseline is the running mean of the"
        " life's returns, which the paper does not have."
    )


STUDY = Study(
    title="No DICE, Figures 2 (left) and 5: the bias-variance plane of the bandit",
    question=(
        "Vuorio et al. 2021: the sampling correction trades bias against variance; λ and α move along that curve, and"
        " so do longer windows; untruncated with λ = 1 the meta-gradient is unbiased."
    ),
    minutes={"smoke": "4 min", "small": "15 min", "paper": "days (projected)"},
    seeds={"smoke": 1, "small": 1, "paper": 1},
    cells=_cells,
    run=run,
    judge=judge,
    draw=draw,
    setting=setting,
)
