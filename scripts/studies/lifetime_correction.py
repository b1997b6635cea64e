"""Our own question: in one long life, does a sampling correction pay, and where?"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from configs.experiment import ExperimentConfig
from configs.tree import override
from scripts.figure import panels
from scripts.lives import Lives
from scripts.studies import self_tuning
from scripts.studies.arms import Arm, by_seed, draw_curves, run_arm
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.statistics import Interval, interval, is_above

STEPS = {"smoke": 6_400, "small": 240_000, "paper": 10_000_000}
LAMBDAS = {"smoke": (0.0, 1.0), "small": (0.0, 0.01, 1.0), "paper": (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)}
GAMMA = 0.9  # of the outer loss, and of the inner one at birth: both worlds are learned within a part of a life
SWAPS = 4  # parts of a life; at the end of each the world swaps


class Grid(NamedTuple):
    """What is lived in one world: every window at every lag, with every λ."""

    windows: tuple[int, ...]
    lags: tuple[str, ...]
    still: tuple[int, ...]  # windows whose estimates' mean and variance are measured, too, with η held still


GRIDS = {
    "smoke": {"catch": Grid((2,), ("0",), (2,))},
    "small": {"two_colors": Grid((3, 5), ("0", "1"), (5,)), "catch": Grid((3, 5), ("0", "1"), (5,))},
    "paper": {
        "two_colors": Grid((3, 5, 10, 20), ("0", "1"), (3, 10)),
        "catch": Grid((3, 5, 10, 20), ("0", "1"), (3, 10)),
    },
}
STILL = ", η still"


def _group(world: str, window: int, lag: str) -> str:
    return f"{world}, K = {window}, lag {lag}"


def _arm(group: str, weight: float) -> str:
    return f"{group}: λ = {weight:g}"


def experiment(world: str, window: int, lag: str, weight: float, scale: str) -> ExperimentConfig:
    """STAC, scored by all batches of its window."""
    swap = STEPS[scale] // 16 // SWAPS
    base = self_tuning.experiment(world, "good", True, scale)
    base = dataclasses.replace(base, meta_init=dataclasses.replace(base.meta_init, gamma=self_tuning.raw(GAMMA)))
    return override(
        base,
        {
            "outer.gamma": GAMMA,
            "optimizer.learning_rate": 3e-3,
            "frames": STEPS[scale],
            "environment.switch_steps": swap,
            "environment.catch_switch_steps": swap,
            "meta_gradient.objective": "all",
            "meta_gradient.diagnostics": 0,  # nothing here asks how the two parts compare
            "window": window,
            "lag": lag,
            "correction": weight,
        },
    )


def _cells(scale: str, seeds: int) -> list[Cell]:
    cells = []
    for world, grid in GRIDS[scale].items():
        for window, lag in itertools.product(grid.windows, grid.lags):
            for weight in LAMBDAS[scale][: 1 if scale == "smoke" else None]:
                config = experiment(world, window, lag, weight, scale)
                cells.append(Cell(_arm(_group(world, window, lag), weight), Arm(config, seeds)))
        for window, weight in itertools.product(grid.still, LAMBDAS[scale]):
            config = override(experiment(world, window, "0", weight, scale), {"meta_optimizer.learning_rate": 0.0})
            cells.append(Cell(_arm(_group(world, window, "0") + STILL, weight), Arm(config, seeds)))
    return cells


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """The course of an arm's lives; with η held still, a row for each life and each meta-parameter: the mean and the
    variance of its windows' estimates."""
    if STILL not in cell.name:
        return run_arm(cell, out, tell)
    config, seeds, _ = cell.content
    tell(f"{cell.name}: compiling", 0.0)
    lives = Lives(config)
    _, records = lives.run(lives.start(range(seeds)), round(config.frames / lives.steps_per_window))
    of = {name.removeprefix("meta_grad/of_"): np.asarray(v, float) for name, v in records.items() if "/of_" in name}
    return [
        {"seed": seed, "parameter": name, "mean": v[seed].mean(), "variance": v[seed].var(ddof=1)}
        for seed in range(seeds)
        for name, v in of.items()
    ]


def _lived(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Group -> the λ that the table has, in order."""
    found: dict[str, list[float]] = {}
    for name in dict.fromkeys(row["cell"] for row in rows):
        group, weight = name.split(": λ = ")
        found.setdefault(group, []).append(float(weight))
    return found


def _still(rows: Sequence[Row], group: str, weight: float, column: str) -> np.ndarray:
    """[seeds, meta-parameters] of the arms whose η is held still."""
    own = [row for row in rows if row["cell"] == _arm(group, weight)]
    seeds = sorted({row["seed"] for row in own})
    return np.array([[row[column] for row in own if row["seed"] == seed] for seed in seeds])


def _squared_distance(rows: Sequence[Row], group: str, weight: float) -> np.ndarray:
    """[seeds] squared distance between the mean estimates at λ and at λ = 1, the correction in full.

    Each life's difference times the mean of the others': its mean over the lives does not contain their variance.
    """
    difference = _still(rows, group, weight, "mean") - _still(rows, group, 1.0, "mean")
    others = (difference.sum(axis=0) - difference) / (len(difference) - 1)
    return np.sum(difference * others, axis=1)


def judge(rows: Sequence[Row]) -> list[Verdict]:
    found = _lived(rows)
    claims = sum(len(weights) - 1 for group, weights in found.items() if STILL not in group)
    still = sum(len(weights) - 1 for group, weights in found.items() if STILL in group)
    verdicts = []
    for group, weights in found.items():
        if STILL not in group:
            none = by_seed(rows, _arm(group, 0.0))
            for weight in weights[1:]:
                claim = f"{group}: λ = {weight:g} earns more over the life than λ = 0"
                verdicts.append(is_above(claim, by_seed(rows, _arm(group, weight)), none, " reward a step", claims))
            continue
        for weight in weights[:-1]:
            claim = f"{group}: the running estimate's mean at λ = {weight:g} is away from that at λ = 1"
            distance = _squared_distance(rows, group, weight)
            verdicts.append(is_above(claim, distance, np.zeros_like(distance), ", squared distance", still))
        for weight in weights[1:]:
            claim = f"{group}: one window's estimate varies more at λ = {weight:g} than at λ = 0"
            variance = [np.log10(_still(rows, group, w, "variance").sum(axis=1)) for w in (weight, 0.0)]
            verdicts.append(is_above(claim, *variance, ", log10 of the summed variance", still))
    return verdicts


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    figures, planes = [], []
    for group, weights in _lived(rows).items():
        if STILL in group:
            planes.append(group)
            continue
        path = out / f"{group.replace(', ', '_').replace(' ', '')}.png"
        caption = f"{group}: reward a step, mean and 95 % interval over seeds"
        arms = [_arm(group, weight) for weight in weights]
        figures.append(draw_curves(rows, arms, "reward", "reward a step", path, caption))
    with panels(out / "plane.png", len(planes)) as every:
        for axes, group in zip(every, planes, strict=True):
            for weight in _lived(rows)[group]:
                variance = interval(np.log10(_still(rows, group, weight, "variance").sum(axis=1)))
                distance = interval(_squared_distance(rows, group, weight)) if weight != 1 else Interval(0.0, 0.0, 0.0)
                error = [[distance.mean - distance.low], [distance.high - distance.mean]]
                axes.errorbar(10**variance.mean, distance.mean, error, fmt="o", label=f"λ = {weight:g}")
            axes.set(
                title=group,
                xlabel="variance of one window's estimate",
                ylabel="squared distance of the mean from that at λ = 1",
                xscale="log",
            )
            axes.legend()
    caption = (
        "The running estimate, η held still: variance, and distance of its mean from that at λ = 1; 95 % over seeds"
    )
    return [*figures, Figure("plane.png", caption)]


def setting(scale: str) -> str:
    return (
        f"STAC, scored by all batches of its window; 16 streams of {STEPS[scale] // 16:,} steps in one life. Two Colors"
        f" swaps its rewards {SWAPS - 1} times, Catch left and right; mlp 64-64, Adam 3e-3, unroll 20; η's Adam"
        f" {self_tuning.META_RATE:g}; γ, at birth, and the outer γ' are {GAMMA:g}. λ weighs the sum of 320 scores"
        ". Its bias is told as the distance of the mean over a life of the window's estimate from that at λ = 1, the"
        " correction in full: no exact derivative is known here, and with an outer loss that bootstraps and has value"
        " and entropy terms λ = 1 need not have its mean at one. Intervals hold for all claims of a kind together"
        " (Bonferroni)."
    )


STUDY = Study(
    title="Does a sampling correction pay in one long life?",
    question=(
        "No DICE leaves the reinforcement learning case, with time inside one life, as open work. Here: a life's return"
        " and the running estimate's mean and variance, on worlds that change, against λ, window and policy lag."
    ),
    minutes={
        "smoke": "1 min",
        "small": "12 min",
        "paper": "4 days (projected from `small`: 12 ms a life's update of η)",
    },
    seeds={"smoke": 2, "small": 10, "paper": 30},
    cells=_cells,
    run=run,
    judge=judge,
    draw=draw,
    setting=setting,
)
