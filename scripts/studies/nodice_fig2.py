"""No DICE, Figure 2: where estimators lie between bias and variance, and what they learn."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from scripts.figure import panels
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.nodice import (
    CORRECTED,
    DICE,
    DICE_CORRECTED,
    ESTIMATORS,
    FINITE_DIFFERENCES,
    NAIVE,
    Learning,
    draw_paths,
    ends,
    learn,
    learned,
    paths,
)
from scripts.studies.nodice_plane import (
    ADDS_BIAS,
    GROUPS,
    OFF_THE_FRONTIER,
    WINDOWS,
    all_above,
    draw_plane,
    draw_points,
    is_biased,
    is_more_biased,
    no_bias,
    plane_cells,
    run_plane,
    summaries,
    windows_of,
)
from scripts.studies.verdicts import is_above, is_same

GRID = {"smoke": (2.0,), "small": (1.0, 2.5), "paper": (1.0, 1.75, 2.5, 3.25, 4.0)}
SAMPLES = {"smoke": 200, "small": 200_000, "paper": 2_000_000}
START = (2.0, 2.0)
UPDATES_OF_ETA = {"smoke": 2, "small": 600, "paper": 100_000}
RATE = {"smoke": 1.0, "small": 0.5, "paper": 0.01}  # of η's SGD
LOOKS = {"smoke": 20, "small": 20_000, "paper": 100_000}
POINTS = {"smoke": 2, "small": 10, "paper": 100}
# Fewer lives an update where the noise is small.
LIVES = {
    "smoke": dict.fromkeys((FINITE_DIFFERENCES, CORRECTED), 8),
    "small": {FINITE_DIFFERENCES: 240, NAIVE: 24, CORRECTED: 1_000, DICE: 50, DICE_CORRECTED: 1_000},
    "paper": dict.fromkeys(ESTIMATORS, 1_000),
}
PAPER = "2.4 days (projected: 0.02 s an update, 0.08 s by finite differences, 0.02 to 0.08 ms a life of the plane)"
LEARN = "learn: "  # before the names of cells
MARGIN = 0.003  # a reward a pull that counts as the same


def learning(
    scale: str, name: str, starts: Sequence[tuple[float, float]], seeds: int, rate: float, looks: int, judges: int
) -> Learning:
    """How one of the five estimators learns η untruncated, by SGD."""
    return Learning(
        settings=ESTIMATORS[name] | {"meta_optimizer.learning_rate": rate},
        starts=starts,
        seeds=seeds,
        updates=UPDATES_OF_ETA[scale],
        lives=LIVES[scale][name],
        points=POINTS[scale],
        looks=looks,
        judges=judges,
        life=WINDOWS[scale][-1],
    )


def _cells(scale: str, seeds: int) -> list[Cell]:
    windows = WINDOWS[scale]
    further = {name: ESTIMATORS[name] | {"window": windows[-1]} for name in (DICE, DICE_CORRECTED)}
    kinds = [("es", windows[-1]), ("es", windows[1]), ("pes", windows[0])] if scale != "smoke" else []
    further |= {f"{kind} of {n}": {"meta_gradient.differentiation": kind, "window": n} for kind, n in kinds}
    looks = LOOKS[scale]
    learning_cells = [
        Cell(LEARN + name, learning(scale, name, (START,), seeds, RATE[scale], looks, looks)) for name in LIVES[scale]
    ]
    return learning_cells + plane_cells(scale, GRID[scale], SAMPLES[scale], further)


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """A curve of learning for every seed, or means and variances at points of η."""
    del out
    if isinstance(cell.content, Learning):
        return learn(cell.content, lambda part: tell(cell.name, part))
    return run_plane(cell, tell)


def judge(rows: Sequence[Row]) -> list[Verdict]:
    end = {name: ends(rows, LEARN + name) for name in learned(rows, LEARN)}
    same = f"with the full correction η learns what it learns by finite differences (within {MARGIN:g} a pull)"
    others = [name for name in (NAIVE, DICE) if name in end]
    claims = 1 + 2 * len(others) + (DICE_CORRECTED in end)
    verdicts = [is_same(same, end[CORRECTED], end[FINITE_DIFFERENCES], MARGIN, claims=claims)]
    for name in others:
        claim = f"finite differences end better than {name}"
        verdicts.append(is_above(claim, end[FINITE_DIFFERENCES], end[name], claims=claims))
        verdicts.append(_falls(rows, name, claims))
    if DICE_CORRECTED in end:
        claim = "the correction without DiCE ends better than with it"
        verdicts.append(is_above(claim, end[CORRECTED], end[DICE_CORRECTED], claims=claims))
    found = summaries(rows)
    longest = f"T={windows_of(found)[-1]}"
    full, none = found[f"{longest} λ=1"], found[f"{longest} λ=0"]
    verdicts += [
        no_bias("untruncated, the full correction is unbiased: none is significant where that of λ = 0 is", full, none),
        is_biased("untruncated, DiCE alone is biased", found[DICE], none),
        all_above(ADDS_BIAS, [(found[DICE].squared_bias, none.squared_bias)]),
        is_more_biased(OFF_THE_FRONTIER, found, DICE, windows_of(found)[-1]),
        all_above("untruncated, DiCE is noisier than naive", [(found[DICE].variance, none.variance)]),
        is_biased("untruncated, DiCE with the full correction is biased", found[DICE_CORRECTED], none),
        all_above("DiCE adds bias to the full correction", [(found[DICE_CORRECTED].squared_bias, full.squared_bias)]),
        all_above("DiCE adds variance to the full correction", [(found[DICE_CORRECTED].variance, full.variance)]),
    ]
    untruncated = f"es of {windows_of(found)[-1]}"
    truncated = [name for name in found if name.startswith("es of") and name != untruncated]
    for name in (name for name in (untruncated, "pes of 1") if name in found):
        claim = f"our own: {name} is unbiased for the whole life: none is significant where that of λ = 0 is"
        verdicts.append(no_bias(claim, found[name], none))
    for name in truncated:
        pair = (found[name].squared_bias, found[untruncated].squared_bias)
        verdicts.append(all_above(f"our own: {name} is more biased than {untruncated}", [pair]))
    return verdicts


def _falls(rows: Sequence[Row], name: str, claims: int) -> Verdict:
    """Whether curves pass a point that is above their end: for each seed the point that is best for the others."""
    claim = f"{name} learning passes its best and falls"
    _, rewards = paths(rows, LEARN + name, "reward")
    if len(rewards) < 2:
        return Verdict(claim, "a single seed has no others to choose the point by", "undecided")
    points = [int(np.delete(rewards, seed, axis=0).mean(axis=0)[:-1].argmax()) for seed in range(len(rewards))]
    best = rewards[np.arange(len(rewards)), points]
    return is_above(claim, best, rewards[:, -1], claims=claims)


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    with panels(out / "figure2.png", 2) as axes:
        draw_plane(axes[0], summaries(rows), lambda s: s.squared_bias, "squared bias")
        draw_paths(axes[1], rows, {name: LEARN + name for name in learned(rows, LEARN)})
    figures = [
        Figure("figure2.png", "Left: λ rises along each line; means over points of η. Right: mean, 95 % interval")
    ]
    return [*figures, draw_points(rows, out)]


def setting(scale: str) -> str:
    points = ", ".join(map(str, GRID[scale]))
    lives = ", ".join(f"{name} {count:,}" for name, count in LIVES[scale].items())
    return (
        f"30 arms, a life of {WINDOWS[scale][-1] + 1} batches of 10 pulls, two learning rates. Left: raw η, each of the"
        f" two in {points}; {SAMPLES[scale]:,} lives at each point; truth by central differences on the same lives;"
        f" intervals over {GROUPS} groups of lives; T and “of” are windows in updates; es and pes with σ = 0.1, pes"
        f" summed over the life. Right: untruncated, from η = {START}, SGD of rate {RATE[scale]:g},"
        f" {UPDATES_OF_ETA[scale]:,} updates of η; lives an update: {lives}. Curves are the mean reward a pull of"
        f" {LOOKS[scale]:,} other lives at {POINTS[scale]} points; intervals over seeds hold for all claims about"
        " curves together (Bonferroni)."
    )


STUDY = Study(
    title="No DICE, Figure 2: bias and variance, and what the bandit's η learns",
    question=(
        "Vuorio et al. 2021: the corrected meta-gradient learns what finite differences learn; without correction η"
        " drifts away from the optimum; DiCE does not prevent that, and added to the correction it does harm."
    ),
    minutes={"smoke": "20 s", "small": "12 min", "paper": PAPER},
    seeds={"smoke": 2, "small": 6, "paper": 10},
    cells=_cells,
    run=run,
    judge=judge,
    draw=draw,
    setting=setting,
)
