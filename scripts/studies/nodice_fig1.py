"""No DICE, Figure 1: where nine starts of η go, by five estimators, over the landscape of returns."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scripts.figure import panels
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.nodice import (
    CORRECTED,
    DICE,
    DICE_CORRECTED,
    FINITE_DIFFERENCES,
    NAIVE,
    Learning,
    by_half,
    ends,
    learn,
    learned,
    mean_rewards,
    paths,
)
from scripts.studies.nodice_fig2 import LIVES, UPDATES_OF_ETA, learning
from scripts.studies.nodice_plane import WINDOWS
from scripts.studies.verdicts import is_above, is_not_below, is_same

STARTS = {"smoke": (1.0, 3.0), "small": (1.0, 3.0, 5.0), "paper": (1.0, 3.0, 5.0)}  # of each raw rate
GRID = {"smoke": 3, "small": 11, "paper": 50}  # points of each raw rate
SPAN = (-5.0, 15.0)
GRID_LIVES = {"smoke": 20, "small": 20_000, "paper": 500_000}  # the authors' number
# The same judge all ends, so that what is common to them by chance is in no interval: many, to make it small.
JUDGES = {"smoke": 20, "small": 200_000, "paper": 500_000}
LOOKS = 20  # lives: what lies between a path's ends is not judged
RATE = {"smoke": 1.0, "small": 0.5, "paper": 0.01}  # of η's SGD
LANDSCAPE = "landscape"
PAPER = "2 days (projected: 0.02 s an update, 0.08 s by finite differences, 0.025 ms a life that judges)"
MARGIN = 0.005  # a reward a pull that counts as the same


class Landscape(NamedTuple):
    rates: tuple[float, ...]  # raw, each of the two
    lives: int  # at each point
    judges: int  # lives that judge the highest of them
    life: int


def _cells(scale: str, seeds: int) -> list[Cell]:
    starts = tuple(itertools.product(STARTS[scale], STARTS[scale]))
    rates = tuple(map(float, np.linspace(*SPAN, GRID[scale])))
    landscape = Cell(LANDSCAPE, Landscape(rates, GRID_LIVES[scale], JUDGES[scale], WINDOWS[scale][-1]))
    return [landscape] + [
        Cell(name, learning(scale, name, starts, seeds, RATE[scale], LOOKS, JUDGES[scale])) for name in LIVES[scale]
    ]


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """The path of η from every start, or the mean reward at every point of the landscape, and last once more that of
    the highest, by those who judge the ends of paths."""
    del out
    if isinstance(cell.content, Learning):
        return learn(cell.content, lambda part: tell(cell.name, part))
    rates, lives, judges, life = cell.content
    rows = []
    for index, early in enumerate(rates):
        tell(cell.name, index / len(rates))
        rewards = mean_rewards([(early, late) for late in rates], 0, lives, life)
        rows += [{"early": early, "late": late} | by_half(own) for late, own in zip(rates, rewards, strict=True)]
    top = max(rows, key=lambda row: row["reward"])
    return [*rows, top | by_half(mean_rewards([(top["early"], top["late"])], 0, judges, life)[0])]


def judge(rows: Sequence[Row]) -> list[Verdict]:
    names = learned(rows)
    end = {name: ends(rows, name) for name in names}
    late = {name: ends(rows, name, "late") for name in names}
    best = _top(rows, names)
    others = [name for name in (NAIVE, DICE, DICE_CORRECTED) if name in names]
    claims = 3 + 2 * len(others)
    verdicts = [
        is_not_below(
            f"{name} bring η to the top of the landscape (within {MARGIN:g} a pull, mean over starts)",
            end[name],
            np.full_like(end[name], best),
            MARGIN,
            claims=claims,
        )
        for name in (FINITE_DIFFERENCES, CORRECTED)
    ]
    same = "corrected ends where finite differences end (within the same margin)"
    verdicts.append(is_same(same, end[CORRECTED], end[FINITE_DIFFERENCES], MARGIN, " a pull", claims))
    for name in others:
        away = f"{name}: the late rate ends above that of finite differences"
        verdicts.append(is_above(away, late[name], late[FINITE_DIFFERENCES], claims=claims))
        below = f"{name} ends below finite differences"
        verdicts.append(is_above(below, end[FINITE_DIFFERENCES], end[name], " a pull", claims))
    return verdicts


def _top(rows: Sequence[Row], names: Sequence[str]) -> float:
    """The best of the ground's highest point and all ends (the ground's points miss the ridge), all judged by the same
    lives: chosen by one half of them, and told by the other."""
    *_, ground = (row for row in rows if row["cell"] == LANDSCAPE)
    halves = [
        np.concatenate([[ground[half]], *(ends(rows, name, half) for name in names)])
        for half in ("first_half", "second_half")
    ]
    return float(np.mean([judge[chooser.argmax()] for chooser, judge in (halves, halves[::-1])]))


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    *land, _ = (row for row in rows if row["cell"] == LANDSCAPE)
    rates = sorted({row["early"] for row in land})
    height = np.array([row["reward"] for row in land]).reshape(len(rates), len(rates))
    names = learned(rows)
    with panels(out / "paths.png", len(names), rows=2) as axes:
        for axis, name in zip(axes, names, strict=True):
            axis.pcolormesh(rates, rates, height.T, cmap="Greys", alpha=0.5, shading="nearest")
            early, late = (paths(rows, name, column)[1] for column in ("early", "late"))
            axis.plot(early.T, late.T, linewidth=1)
            axis.plot(early[:, 0], late[:, 0], "rx", markersize=5)
            axis.plot(early[:, -1], late[:, -1], "ro", markersize=3)
            axis.set(title=name, xlabel="early, raw", ylabel="late, raw", xlim=SPAN, ylim=SPAN)
    return [Figure("paths.png", "Crosses: starts; dots: ends; the darker the ground, the higher the mean reward there")]


def setting(scale: str) -> str:
    lives = ", ".join(f"{name} {count:,}" for name, count in LIVES[scale].items())
    return (
        f"30 arms, a life of {WINDOWS[scale][-1] + 1} batches of 10 pulls, untruncated. Raw η starts with each of its"
        f" two rates in {', '.join(map(str, STARTS[scale]))}; SGD of rate {RATE[scale]:g},"
        f" {UPDATES_OF_ETA[scale]:,} updates of η; lives an update: {lives}. Ground: {GRID[scale]}² points of"
        f" {GRID_LIVES[scale]:,} lives. Each start learns by lives of its own; all ends, and the ground's highest"
        f" point, are judged by the same {JUDGES[scale]:,} others. Intervals over starts hold for all claims together"
        " (Bonferroni)."
    )


STUDY = Study(
    title="No DICE, Figure 1: paths of η over the landscape of returns",
    question=(
        "Vuorio et al. 2021: finite differences and the full correction bring every start to the same optimum; without"
        " correction both learning rates grow past it; DiCE wanders, and settles elsewhere."
    ),
    minutes={"smoke": "10 s", "small": "10 min (projected)", "paper": PAPER},
    seeds={"smoke": 1, "small": 1, "paper": 1},
    cells=_cells,
    run=run,
    judge=judge,
    draw=draw,
    setting=setting,
)
