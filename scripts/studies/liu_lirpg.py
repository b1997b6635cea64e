"""Liu et al. 2022, LIRPG on random MDPs: what LVC does for the Hessians inside a meta-gradient of many updates."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.figure import panels
from scripts.studies import tabular_sweep
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.liu_maml import NAMES
from scripts.studies.statistics import is_above
from scripts.studies.tabular_sweep import Point, by_task, draw_line, present

SURROGATES = ("plain", "lvc")
SAMPLES = {"smoke": (16,), "small": (16, 64, 256), "paper": (16, 32, 64, 128, 256)}
STEPS = {"smoke": (1, 2), "small": (1, 2, 3, 5), "paper": (1, 2, 3, 4, 5)}
REPEATS = {"smoke": 4, "small": 20, "paper": 20}
RATE, FIXED_SAMPLES = 10.0, {"smoke": 16, "small": 64, "paper": 64}
LETTERS = ("ele", "lll")


def _cells(scale: str, seeds: int) -> list[Cell]:
    """The longest window at every number of samples, and the middle number of samples at every window."""
    pairs = [(samples, STEPS[scale][-1]) for samples in SAMPLES[scale]]
    pairs += [(FIXED_SAMPLES[scale], steps) for steps in STEPS[scale][:-1]]
    return tabular_sweep.cells(
        {
            f"{steps} steps, {samples} samples, {surrogate}": Point(
                "lirpg", surrogate, samples, steps, (RATE,), LETTERS, seeds, REPEATS[scale]
            )
            for samples, steps in pairs
            for surrogate in SURROGATES
        }
    )


def _sweeps(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """By number of samples, and by number of updates."""
    longest = present(rows, "steps")[-1]
    of_steps = {row["samples"] for row in rows if row["steps"] != longest}
    return [row for row in rows if row["steps"] == longest], [row for row in rows if row["samples"] in of_steps]


def judge(rows: Sequence[Row]) -> list[Verdict]:
    by_samples, by_steps = _sweeps(rows)
    few, many = (present(by_samples, "samples")[i] for i in (0, -1))
    steps = present(by_steps, "steps")

    def found(own: Sequence[Row], surrogate: str, letters: str = "ele", **where: float) -> np.ndarray:
        return by_task(own, "correlation", surrogate=surrogate, letters=letters, **where)

    one = np.abs(found(by_steps, "lvc", steps=1) - found(by_steps, "plain", steps=1)).max()
    verdicts = [
        Verdict(
            "one update has no Hessian in it: LVC and plain are the same estimate",
            f"largest difference of correlations {one:.1e}",
            "agree" if one < 1e-5 else "disagree",
        )
    ]
    verdicts += [
        is_above(
            f"Hessians alone from samples, K = {k:.0f}: LVC correlates better than plain",
            found(by_steps, "lvc", steps=k),
            found(by_steps, "plain", steps=k),
            claims=len(steps) - 1,
        )
        for k in steps[1:]
    ]
    verdicts += [
        is_above(
            f"K = {steps[-1]:.0f}, {n:.0f} episodes, all from samples: LVC correlates better than plain",
            found(by_samples, "lvc", "lll", samples=n),
            found(by_samples, "plain", "lll", samples=n),
            claims=2,
        )
        for n in (few, many)
    ]
    for name in SURROGATES:
        verdicts += [
            is_above(
                f"{NAMES[name]}, Hessians alone: {many:.0f} episodes correlate better than {few:.0f}",
                found(by_samples, name, samples=many),
                found(by_samples, name, samples=few),
                claims=2,
            ),
            is_above(
                f"{NAMES[name]}, Hessians alone: one update correlates better than {steps[-1]:.0f}",
                found(by_steps, name, steps=steps[0]),
                found(by_steps, name, steps=steps[-1]),
                claims=2,
            ),
        ]
    return verdicts


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    by_samples, by_steps = _sweeps(rows)
    with panels(out / "lirpg.png", 2) as axes:
        for axis, own, column, label in (
            (axes[0], by_samples, "samples", "episodes in a batch"),
            (axes[1], by_steps, "steps", "inner updates K"),
        ):
            for name in SURROGATES:
                for letters in LETTERS:
                    draw_line(axis, own, column, f"{NAMES[name]}, {letters}", surrogate=name, letters=letters)
            axis.set(xlabel=label, ylabel="correlation")
            axis.legend()
        axes[0].set(xscale="log")
    caption = "Mean over MDPs with its 95 % interval; ele: Hessians and ∂²/∂η∂θ alone from samples, lll: all"
    return [Figure("lirpg.png", caption)]


def setting(scale: str) -> str:
    return (
        "A seed is a random MDP, of 20 states and 5 actions; γ = 0.8, episodes of 20 steps, uniform policy at the"
        f" start; {REPEATS[scale]} estimates for each MDP; η is an added reward for each state and action, 0 at first;"
        f" learning rate {RATE:g}. K = {STEPS[scale][-1]} on the left, {FIXED_SAMPLES[scale]} episodes on the right."
        " Advantages are over true values with normal noise, which are constants to η (the paper's carry its gradient),"
        " and λ is 1 (the paper: GAE of 0.9), so that an advantage has its whole gradient in η."
        " Intervals and paired differences are over the MDPs."
    )


STUDY = Study(
    title="Liu et al. 2022: LIRPG on random MDPs",
    question=(
        "Does low-variance curvature bring meta-gradients of a learned reward nearer to the exact one, by number of"
        " samples and of updates? The paper: the multi-step Hessian bias grows with the number of updates, and LVC"
        " mitigates it."
    ),
    minutes={"smoke": "1 min", "small": "5 min", "paper": "6 min (49 ms an estimate)"},
    seeds={"smoke": 2, "small": 10, "paper": 10},
    cells=_cells,
    run=tabular_sweep.run,
    judge=judge,
    draw=draw,
    setting=setting,
)
