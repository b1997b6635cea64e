"""Liu et al. 2022, MAML on random MDPs: which estimate costs how much correlation with the exact meta-gradient."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.figure import panels
from scripts.studies import tabular_sweep
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.tabular import NOTHING_REUSED, Memory
from scripts.studies.tabular_sweep import EACH, LETTERS, NAMES, SINGLE, Point, by_task, draw_line, present
from scripts.studies.verdicts import is_above

SURROGATES = ("plain", "lvc", "loaded_dice", "dice")
SAMPLES = {"smoke": (16,), "small": (4, 16, 64, 256), "paper": (2, 4, 8, 16, 32, 64, 128, 256)}
STEPS = {"smoke": (1,), "small": (1, 2, 4, 6), "paper": (1, 2, 3, 4, 5, 6)}
RATES = {"smoke": (1.0, 13.0), "small": (1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0), "paper": tuple(map(float, range(1, 14)))}
REPEATS = {"smoke": 4, "small": 20, "paper": 20}
RATE = 10.0
MANY_STEPS = {"smoke": 1, "small": 5, "paper": 5}
FIXED_SAMPLES = {"smoke": 16, "small": 32, "paper": 32}
OF_HESSIAN = tuple(letters for letters in LETTERS if letters[1] == "l")
# A few new episodes, and so many of earlier policies that a batch has the second number.
NEW, ALL = {"smoke": 16, "small": 16, "paper": 16}, {"smoke": 48, "small": 256, "paper": 256}
SPREADS = {"smoke": (0.5,), "small": (0.25, 0.5, 1.0), "paper": (0.25, 0.5, 1.0, 2.0)}
OF_REUSE = {"lee": "updates alone", "ele": "Hessian alone"}
REUSING = {"off_policy": "each step by its own ratio", "off_policy_dice": "by the product of ratios"}


def _cells(scale: str, seeds: int) -> list[Cell]:
    """One cell for each program that has to be compiled. Without samples of the Hessian no surrogate matters."""
    size = {"tasks": seeds, "repeats": REPEATS[scale]}
    surrogates = SURROGATES[:2] if scale == "smoke" else SURROGATES
    points = {
        f"{samples} samples, {surrogate}": Point(
            "maml", surrogate, samples, 1, (RATE,), LETTERS if surrogate == "plain" else OF_HESSIAN, **size
        )
        for samples in SAMPLES[scale]
        for surrogate in surrogates
    }
    points |= {
        f"{steps} steps": Point("maml", "plain", FIXED_SAMPLES[scale], steps, (RATE,), EACH, **size)
        for steps in STEPS[scale]
    }
    memories = [(NEW[scale], Memory(ALL[scale] - NEW[scale], spread)) for spread in SPREADS[scale]]
    memories += [(NEW[scale], NOTHING_REUSED)] + [(ALL[scale], NOTHING_REUSED)] * (scale != "smoke")
    points |= {
        f"{new} new, {memory.episodes} reused at {memory.spread:g}, {surrogate}": Point(
            "maml", surrogate, new, 1, (RATE,), OF_REUSE, **size, memory=memory
        )
        for new, memory in memories
        for surrogate in (tuple(REUSING)[:1] if scale == "smoke" else REUSING)
    }
    points["rates"] = Point("maml", "plain", FIXED_SAMPLES[scale], MANY_STEPS[scale], RATES[scale], EACH, **size)
    return tabular_sweep.cells(points)


def _rows(rows: Sequence[Row], sweep: str) -> list[Row]:
    """Of one of the three sweeps: "samples", "steps" or "rates"."""
    return [row for row in rows if sweep in row["cell"]]


def judge(rows: Sequence[Row]) -> list[Verdict]:
    by_samples, by_steps, by_rate = (_rows(rows, sweep) for sweep in ("samples", "steps", "rates"))
    surrogates = [name for name in SURROGATES if name in present(by_samples, "surrogate")]
    few, many = (present(by_samples, "samples")[i] for i in (0, -1))

    def found(surrogate: str, samples: float, letters: str) -> np.ndarray:
        return by_task(by_samples, "correlation", surrogate=surrogate, samples=samples, letters=letters)

    verdicts = [
        is_above(
            f"{NAMES[name]}, all three from samples: {many:.0f} episodes correlate better than {few:.0f}",
            found(name, many, "lll"),
            found(name, few, "lll"),
            claims=len(surrogates),
        )
        for name in surrogates
    ]
    verdicts += [
        is_above(
            f"Hessian alone from {size:.0f} episodes: LVC correlates better than {NAMES[other]}",
            found("lvc", size, "ele"),
            found(other, size, "ele"),
            claims=2 * (len(surrogates) - 1),
        )
        for other in surrogates
        if other != "lvc"
        for size in dict.fromkeys((few, many))
    ]
    verdicts += [
        is_above(
            f"one alone from {few:.0f} episodes: {what} costs less correlation than the updates",
            found("plain", few, letters),
            found("plain", few, "lee"),
            claims=2,
        )
        for what, letters in (("the Hessian", "ele"), ("the outer gradient", "eel"))
    ]
    for sweep, column, own in (("steps", "steps", by_steps), ("learning rates", "rate", by_rate)):
        low, high = (present(own, column)[i] for i in (0, -1))
        if low == high:
            continue
        verdicts.append(
            is_above(
                f"compositional bias: with the updates alone from samples, fewer or smaller {sweep} correlate better"
                f" ({low:g} than {high:g})",
                by_task(own, "correlation", letters="lee", **{column: low}),
                by_task(own, "correlation", letters="lee", **{column: high}),
                claims=2,
            )
        )
    return verdicts + _reuse_verdicts(rows)


def _reuse_verdicts(rows: Sequence[Row]) -> list[Verdict]:
    own = _rows(rows, "reused")
    new, remembered = own[0]["samples"], present(own, "remembered")[-1]
    surrogates, spreads = present(own, "surrogate"), present(own, "spread")[1:]

    def found(letters: str, surrogate: str, spread: float) -> np.ndarray:
        return by_task(own, "correlation", samples=new, letters=letters, surrogate=surrogate, spread=spread)

    return [
        is_above(
            f"{what} from {new:.0f} new episodes: {remembered:.0f} more of policies off by {spread:g}, weighed"
            f" {REUSING[surrogate]}, correlate better than none",
            found(letters, surrogate, spread),
            found(letters, surrogate, 0.0),
            claims=len(OF_REUSE) * len(surrogates) * len(spreads),
        )
        for letters, what in OF_REUSE.items()
        for surrogate in surrogates
        for spread in spreads
    ]


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    by_samples, by_steps, by_rate = (_rows(rows, sweep) for sweep in ("samples", "steps", "rates"))
    surrogates = [name for name in SURROGATES if name in present(by_samples, "surrogate")]
    with panels(out / "samples.png", 3) as axes:
        for letters in SINGLE:
            draw_line(axes[0], by_samples, "samples", f"{letters}", surrogate="plain", letters=letters)
        for name in surrogates:
            draw_line(axes[1], by_samples, "samples", NAMES[name], surrogate=name, letters="ele")
            draw_line(axes[2], by_samples, "samples", NAMES[name], surrogate=name, letters="lll")
        titles = ("plain, one from samples", "Hessian from samples", "all from samples")
        for axis, title in zip(axes, titles, strict=True):
            axis.set(xscale="log", xlabel="episodes in a batch", ylabel="correlation", title=title)
            axis.legend()
    with panels(out / "steps.png", 2) as axes:
        for axis, own, column, label in ((axes[0], by_steps, "steps", "inner updates K"),
                                         (axes[1], by_rate, "rate", "learning rate")):  # fmt: skip
            for letters in EACH:
                draw_line(axis, own, column, letters, letters=letters)
            axis.set(xlabel=label, ylabel="correlation")
            axis.legend()
    reused = _rows(rows, "reused")
    new, remembered = reused[0]["samples"], present(reused, "remembered")[-1]
    with panels(out / "reuse.png", 2) as axes:
        for axis, (letters, what) in zip(axes, OF_REUSE.items(), strict=True):
            for surrogate in present(reused, "surrogate"):
                of_surrogate = [row for row in reused if row["surrogate"] == surrogate and row["letters"] == letters]
                draw_line(axis, [row for row in of_surrogate if row["remembered"]], "spread", REUSING[surrogate])
                colour = axis.lines[-1].get_color()
                for samples, style in ((new, ":"), (new + remembered, "--")):
                    if all_new := [row for row in of_surrogate if not row["remembered"] and row["samples"] == samples]:
                        mean = np.mean([row["correlation"] for row in all_new])
                        label = f"{samples:.0f} new, none reused"
                        axis.axhline(mean, color=colour, linestyle=style, label=label)
            axis.set(xlabel="how far off the reused policies are", ylabel="correlation", title=f"{what} from samples")
            axis.legend()
    return [
        Figure("samples.png", "Mean over MDPs with its 95 % interval. Letters: inner updates, Hessian, outer gradient;"
               " l from samples, e exact"),
        Figure("steps.png", f"Plain, {by_rate[0]['samples']:.0f} episodes in a batch"),
        Figure("reuse.png", f"{new:.0f} new episodes and {remembered:.0f} reused ones, of policies whose logits are off"
               " by so many standard normals, weighed in two ways"),
    ]  # fmt: skip


def setting(scale: str) -> str:
    return (
        "A seed is a random MDP, of 20 states and 5 actions; γ = 0.8, episodes of 20 steps, uniform policy at the"
        f" start; {REPEATS[scale]} estimates for each MDP; η = θ⁰. Learning rate {RATE:g} and one update where nothing"
        f" else is said; K and the learning rates are swept with {FIXED_SAMPLES[scale]} episodes, the rates at"
        f" K = {MANY_STEPS[scale]}."
        " Updates, Hessian and outer gradient each have samples of their own. Values in the losses are the true ones"
        " with normal noise (a twentieth of their norm in each state), 0 for DiCE. Reuse: beside"
        f" {NEW[scale]} new episodes {ALL[scale] - NEW[scale]} others, each of a policy of its own, which stand for a"
        " memory of earlier policies. Intervals are over the MDPs;"
        " those of paired differences hold for all claims of a kind together (Bonferroni)."
    )


STUDY = Study(
    title="Liu et al. 2022: MAML on random MDPs",
    question=(
        "Which of a meta-gradient's three estimates (inner updates, Hessian, outer gradient) costs how much correlation"
        " with the exact one, by number of samples, surrogate, number of updates and learning rate? The paper: the"
        " updates' error stays as a compositional bias, which grows with both; LVC mends the Hessian, and"
        " episodes of earlier policies, weighed by importance ratios, the updates."
    ),
    minutes={"smoke": "20 s", "small": "5 min", "paper": "12 min (15 ms an estimate)"},
    seeds={"smoke": 2, "small": 10, "paper": 10},
    cells=_cells,
    run=tabular_sweep.run,
    judge=judge,
    draw=draw,
    setting=setting,
)
