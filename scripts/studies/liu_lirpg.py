"""Liu et al. 2022, LIRPG on random MDPs: which estimate costs how much correlation, and what LVC mends of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.figure import panels
from scripts.studies import tabular_sweep
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.tabular_sweep import EACH, NAMES, Point, by_task, draw_line, present
from scripts.studies.verdicts import is_above

SURROGATES = ("plain", "lvc")
SAMPLES = {"smoke": (16,), "small": (16, 64, 256), "paper": (16, 32, 64, 128, 256)}
STEPS = {"smoke": (1, 2), "small": (1, 2, 3, 5), "paper": (1, 2, 3, 4, 5)}
REPEATS = {"smoke": 4, "small": 20, "paper": 20}
RATE, FIXED_SAMPLES = 10.0, {"smoke": 16, "small": 64, "paper": 64}
RATES = {"smoke": (1.0, RATE), "small": (1.0, 3.0, 5.0, RATE, 13.0), "paper": (1.0, 3.0, 5.0, 7.0, RATE, 13.0)}
OF_HESSIAN = ("ele", "lll")
# Without samples of the Hessian no surrogate matters.
PARTS = {
    "updates": {"letters": "lee", "surrogate": "plain"},
    "plain Hessians": {"letters": "ele", "surrogate": "plain"},
    "LVC's Hessians": {"letters": "ele", "surrogate": "lvc"},
    "outer gradients": {"letters": "eel", "surrogate": "plain"},
}


def _cells(scale: str, seeds: int) -> list[Cell]:
    """The longest window at every number of samples; the middle number of samples at every window, and at the longest
    of these with every learning rate."""
    fixed, longest = FIXED_SAMPLES[scale], STEPS[scale][-1]
    pairs = [(samples, longest) for samples in SAMPLES[scale]] + [(fixed, steps) for steps in STEPS[scale][:-1]]
    return tabular_sweep.cells(
        {
            f"{steps} steps, {samples} samples, {surrogate}": Point(
                agent="lirpg",
                surrogate=surrogate,
                samples=samples,
                steps=steps,
                rates=RATES[scale] if (samples, steps) == (fixed, longest) else (RATE,),
                letters=EACH if surrogate == "plain" else OF_HESSIAN,
                tasks=seeds,
                repeats=REPEATS[scale],
            )
            for samples, steps in pairs
            for surrogate in SURROGATES
        }
    )


def _sweeps(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """By what is swept: number of samples, of updates, learning rate."""
    longest = present(rows, "steps")[-1]
    of_rates = {row["samples"] for row in rows if row["rate"] != RATE}
    at_rate = [row for row in rows if row["rate"] == RATE]
    return {
        "samples": [row for row in at_rate if row["steps"] == longest],
        "steps": [row for row in at_rate if row["samples"] in of_rates],
        "rate": [row for row in rows if row["samples"] in of_rates and row["steps"] == longest],
    }


def judge(rows: Sequence[Row]) -> list[Verdict]:
    by_samples, by_steps, by_rate = _sweeps(rows).values()
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
    return verdicts + _part_verdicts(by_rate) + _gain_verdicts(by_rate)


def _part_verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Of the longest window: which of the three estimates costs most, and how that changes with the learning rate."""
    low, high = (present(rows, "rate")[i] for i in (0, -1))
    setting = f"K = {rows[0]['steps']:.0f}, {rows[0]['samples']:.0f} episodes"

    def found(part: str, rate: float) -> np.ndarray:
        return by_task(rows, "correlation", rate=rate, **PARTS[part])

    def beyond(part: str, rate: float) -> np.ndarray:
        return found(updates, rate) - found(part, rate)

    updates, plain, lvc, outer = PARTS
    pairs = [(hessians, other) for hessians in (plain, lvc) for other in (updates, outer)] + [(outer, updates)]
    verdicts = [
        is_above(
            f"{setting}, one alone from samples: {costly} cost more correlation than {other}",
            found(other, RATE),
            found(costly, RATE),
            claims=len(pairs),
        )
        for costly, other in pairs
    ]
    verdicts += [
        is_above(
            f"{setting}, {part} alone: rate {low:g} correlates better than {high:g}",
            found(part, low),
            found(part, high),
            claims=len(PARTS),
        )
        for part in PARTS
    ]
    return verdicts + [
        is_above(
            f"{setting}: what {part} cost beyond the updates grows with the learning rate (from {low:g} to {high:g})",
            beyond(part, high),
            beyond(part, low),
            claims=3,
        )
        for part in (plain, lvc, outer)
    ]


def _gain_verdicts(rows: Sequence[Row]) -> list[Verdict]:
    low, high = (present(rows, "rate")[i] for i in (0, -1))

    def gain(letters: str, rate: float) -> np.ndarray:
        lvc, plain = (by_task(rows, "correlation", rate=rate, letters=letters, surrogate=s) for s in ("lvc", "plain"))
        return lvc - plain

    return [
        is_above(
            f"K = {rows[0]['steps']:.0f}, {what}: LVC's gain over plain grows with the learning rate (from {low:g} to"
            f" {high:g})",
            gain(letters, high),
            gain(letters, low),
            claims=len(OF_HESSIAN),
        )
        for letters, what in zip(OF_HESSIAN, ("Hessians alone from samples", "all from samples"), strict=True)
    ]


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    both = {
        f"{NAMES[name]}, {letters}": {"letters": letters, "surrogate": name}
        for name in SURROGATES
        for letters in OF_HESSIAN
    }
    labels = {"samples": "episodes in a batch", "steps": "inner updates K", "rate": "learning rate"}
    for file, lines in (("lirpg.png", both), ("parts.png", PARTS)):
        with panels(out / file, 3) as axes:
            for axis, (column, own) in zip(axes, _sweeps(rows).items(), strict=True):
                for name, where in lines.items():
                    draw_line(axis, own, column, name, **where)
                axis.set(xlabel=labels[column], ylabel="correlation")
                axis.legend()
            axes[0].set(xscale="log")
    mean = "Mean over MDPs with its 95 % interval"
    return [
        Figure("lirpg.png", f"{mean}; ele: Hessians and ∂²/∂η∂θ alone from samples, lll: all"),
        Figure("parts.png", f"{mean}; one of the three estimates from samples, the others exact"),
    ]


def setting(scale: str) -> str:
    return (
        "A seed is a random MDP, of 20 states and 5 actions; γ = 0.8, episodes of 20 steps, uniform policy at the"
        f" start; {REPEATS[scale]} estimates for each MDP; η is an added reward for each state and action, 0 at first;"
        f" K = {STEPS[scale][-1]}, {FIXED_SAMPLES[scale]} episodes and a learning rate of {RATE:g}, but for what is"
        " swept. Updates, Hessians and outer gradient each have samples of their own."
        " Advantages are over true values with normal noise, which are constants to η (the paper's carry its gradient),"
        " and λ is 1 (the paper: GAE of 0.9), so that an advantage has its whole gradient in η."
        " Intervals are over the MDPs; those of paired differences hold for all claims of a kind together"
        " (Bonferroni)."
    )


STUDY = Study(
    title="Liu et al. 2022: LIRPG on random MDPs",
    question=(
        "Which of the three estimates (inner updates, Hessians, outer gradient) costs a learned reward's meta-gradient"
        " how much correlation with the exact one, and what does low-variance curvature mend, by number of samples, of"
        " updates and learning rate? The paper: the multi-step Hessian bias grows with the number of updates, and LVC"
        " mitigates it."
    ),
    minutes={
        "smoke": "20 s",
        "small": "10 min beside other work",
        "paper": "7 min of CPU time (projected: 17 s to compile each of 18 programs, 6 ms an estimate)",
    },
    seeds={"smoke": 2, "small": 10, "paper": 10},
    cells=_cells,
    run=tabular_sweep.run,
    judge=judge,
    draw=draw,
    setting=setting,
)
