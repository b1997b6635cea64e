"""No DICE, Figures 2 (left) and 5: bias and variance of the estimators on the bandit, truncated and not."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from scripts.figure import panels
from scripts.intervals import interval
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.nodice import DICE, UPDATES
from scripts.studies.nodice_plane import (
    ADDS_BIAS,
    EPS,
    GROUPS,
    LAMBDAS,
    OFF_THE_FRONTIER,
    WINDOWS,
    Summary,
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

ALPHAS = {"smoke": (0.5,), "small": (0.5, 0.8, 0.95), "paper": (0.5, 0.8, 0.9, 0.95)}
# The gradient is small beside the noise of λ = 1 but where rates are low: few lives need such points.
GRID = {"smoke": (2.0,), "small": (1.0, 1.75), "paper": (1.0, 1.75, 2.5, 3.25, 4.0)}
LIVES = {"smoke": 10, "small": 20_000, "paper": 100_000}  # of a seed
ALPHA_WINDOWS = {"smoke": (2,), "small": (UPDATES,), "paper": (8, 22, UPDATES)}
PAPER = "9 h (projected: 21 programs of 50M lives at 0.027 ms, one at 0.07 ms)"
BASELINE = "λ=1 with a baseline"


def _cells(scale: str, seeds: int) -> list[Cell]:
    """One cell for each program that has to be compiled."""
    further = {}
    for window, decay in itertools.product(ALPHA_WINDOWS[scale], ALPHAS[scale]):
        further[f"T={window} α={decay:g}"] = {"window": window, "correction": 1.0, "correction_discount": decay}
    longest = {"window": WINDOWS[scale][-1], "correction": 1.0}
    further[BASELINE] = longest | {"meta_gradient.baseline": "running_mean"}
    further[DICE] = {"inner.surrogate": "dice", "window": WINDOWS[scale][-1]}
    return plane_cells(scale, GRID[scale], seeds * LIVES[scale], further, groups=seeds)


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """See `run_plane`."""
    del out
    return run_plane(cell, tell)


def judge(rows: Sequence[Row]) -> list[Verdict]:
    found = summaries(rows)
    windows = windows_of(found)
    longest = f"T={windows[-1]}"
    steps = [(w, a, b) for w in windows[1:] for a, b in itertools.pairwise(LAMBDAS)]
    verdicts = [
        all_above(
            "squared bias falls with λ at every truncation",
            [(found[f"T={w} λ={a:g}"].squared_bias, found[f"T={w} λ={b:g}"].squared_bias) for w, a, b in steps],
        ),
        all_above(
            "variance rises with λ at every truncation",
            [(found[f"T={w} λ={b:g}"].variance, found[f"T={w} λ={a:g}"].variance) for w, a, b in steps],
        ),
        all_above(
            "variance at λ = 1 rises with the window",
            [(found[f"T={b} λ=1"].variance, found[f"T={a} λ=1"].variance) for a, b in itertools.pairwise(windows[1:])],
        ),
    ]
    naive = [found[f"T={window} λ=0"].squared_bias for window in windows]
    verdicts.append(all_above("squared bias at λ = 0 falls with the window", list(itertools.pairwise(naive))))
    verdicts.append(_rises_somewhere(found, windows))
    verdicts.append(all_above(ADDS_BIAS, [(found[DICE].squared_bias, found[f"{longest} λ=0"].squared_bias)]))
    verdicts.append(is_biased("untruncated, DiCE alone is biased", found[DICE], found[f"{longest} λ=0"]))
    steps = [(longest, a, b) for a, b in itertools.pairwise(LAMBDAS)]
    verdicts.append(
        all_above(
            f"{longest}: the cosine with the truth rises with λ",
            [(found[f"{w} λ={b:g}"].cosine, found[f"{w} λ={a:g}"].cosine) for w, a, b in steps],
        )
    )
    alphas = [name for name in found if "α" in name]
    verdicts += [
        is_more_biased(
            f"{name} is no better than λ: its squared bias is above that of the λ with the same variance",
            found,
            name,
            int(name.split()[0][2:]),
            claims=len(alphas),
        )
        for name in alphas
    ]
    verdicts.append(is_more_biased(OFF_THE_FRONTIER, found, DICE, windows[-1]))
    verdicts.append(_is_short(found[f"{longest} λ=0"]))
    ratio = interval(np.log10(found[f"{longest} λ=1"].variance / found[f"{longest} λ=0"].variance))
    inside = (
        "agree" if ratio.low > 2 and ratio.high < 3 else "disagree" if ratio.high < 2 or ratio.low > 3 else "undecided"
    )
    claim = f"{longest}: λ = 1 has two to three orders of magnitude the variance of λ = 0"
    verdicts.append(Verdict(claim, f"10^{ratio}", inside))
    for name in (f"{longest} λ=1", BASELINE):
        claim = f"untruncated, {name} is unbiased: none is significant where that of λ = 0 is"
        verdicts.append(no_bias(claim, found[name], found[f"{longest} λ=0"]))
    less = [(found[f"{longest} λ=1"].variance, found[BASELINE].variance)]
    verdicts.append(all_above("our own: a running mean of returns as baseline cuts the variance of λ = 1", less))
    return verdicts


def _rises_somewhere(found: dict[str, Summary], windows: Sequence[int]) -> Verdict:
    """Whether there is a point of η where the next longer window has more squared bias at λ = 0."""
    points = [found[f"T={window} λ=0"].points() for window in windows]
    pairs = [pair for of_two in itertools.pairwise(points) for pair in zip(*of_two, strict=True)]
    steps = [interval(after.squared_bias - before.squared_bias, 1 - 0.05 / len(pairs)) for before, after in pairs]
    rise, fall = sum(step.low > 0 for step in steps), sum(step.high < 0 for step in steps)
    verdict = "agree" if rise else "disagree" if fall == len(steps) else "undecided"
    claim = "at single points of η a longer window may have more bias at λ = 0"
    return Verdict(claim, f"of {len(steps)} steps {rise} rise, {fall} fall (95 %, Bonferroni)", verdict)


def _is_short(naive: Summary) -> Verdict:
    """Whether the norm is nearer to a tenth of the truth's than to all of it, on a scale of logarithms."""
    norm = interval(naive.norm)
    verdict = "agree" if norm.high < 10**-0.5 else "disagree" if norm.low > 10**-0.5 else "undecided"
    claim = "untruncated, the naive estimate's norm is an order of magnitude below the gradient's (under 10^-0.5 of it)"
    return Verdict(claim, f"{norm} of it, mean over points of η", verdict)


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    found = summaries(rows)
    with panels(out / "plane.png", 2) as axes:
        draw_plane(axes[0], found, lambda s: s.squared_bias, "squared bias")
        draw_plane(axes[1], found, lambda s: s.cosine, "cosine with the truth (jackknife)")
    figures = [
        Figure("plane.png", "Along each line λ rises from left to right (0, 0.2, 0.6, 1); means over the points of η")
    ]
    return [*figures, draw_points(rows, out)]


def setting(scale: str) -> str:
    points = ", ".join(map(str, GRID[scale]))
    return (
        f"30 arms, a life of {WINDOWS[scale][-1] + 1} batches of 10 pulls, two learning rates; T is the window in"
        f" updates. Raw η: each of the two in {points}. A seed is a group of {LIVES[scale]:,} lives, the same for all"
        f" estimators; truth by central differences of width {EPS} with common random numbers, on the same lives;"
        " intervals over seeds. As in the paper the correction has no baseline, but for one arm."
    )


STUDY = Study(
    title="No DICE, Figures 2 (left) and 5: the bias-variance plane of the bandit",
    question=(
        "Vuorio et al. 2021: the sampling correction trades bias against variance; λ and α move along that curve, and"
        " so do longer windows; untruncated with λ = 1 the meta-gradient is unbiased."
    ),
    minutes={"smoke": "10 s", "small": "11 min (projected)", "paper": PAPER},
    seeds=dict.fromkeys(LIVES, GROUPS),
    cells=_cells,
    run=run,
    judge=judge,
    draw=draw,
    setting=setting,
)
