"""Two Colors: does a bootstrapped target tune the entropy weight better than the plain meta-gradient, or none?"""

from collections.abc import Sequence
from pathlib import Path

from configs.experiment import ExperimentConfig
from configs.presets import preset
from configs.tree import override
from scripts.intervals import seeds_to_tell
from scripts.studies.arms import by_seed, cells, draw_curves, run_arm
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.verdicts import is_above

STEPS = {"smoke": 3_200, "small": 500_000, "paper": 10_000_000}
SWITCH = {"smoke": 800, "small": 100_000, "paper": 100_000}
FIXED = {"smoke": (0.05,), "small": (0.1, 0.3), "paper": (0.01, 0.03, 0.1, 0.3)}
MG = {"smoke": (1,), "small": (7,), "paper": (1, 3, 7)}
BMG = {"smoke": ((1, 2),), "small": ((1, 8), (7, 9)), "paper": ((1, 8), (3, 8), (7, 9))}


def _fixed(weight: float) -> str:
    return f"fixed {weight:g}"


def arms(scale: str) -> dict[str, ExperimentConfig]:
    """The same actor-critic with its entropy weight fixed, or tuned by one of the two meta-gradients."""
    own = {"frames": STEPS[scale], "environment.switch_steps": SWITCH[scale], "lag": "0"}
    base = override(preset("two_colors_bmg"), own | {"meta_optimizer.learning_rate": 1e-3})
    plain = {"meta_gradient.objective": "next", "bootstrap.updates": 1}
    still = {
        _fixed(weight): override(
            base,
            plain
            | {
                "agent": "impala",
                "self_tuned.parameters": (),
                "self_tuned.form": "scalar",
                "inner.entropy_weight": weight,
            },
        )
        for weight in FIXED[scale]
    }
    tuned = {f"MG, K = {window}": override(base, plain | {"window": window}) for window in MG[scale]}
    tuned |= {
        f"BMG, K = {window}, L = {target}": override(base, {"window": window, "bootstrap.updates": target})
        for window, target in BMG[scale]
    }
    return tuned | still  # the longest first: side by side they end together


def _cells(scale: str, seeds: int) -> list[Cell]:
    return cells(arms(scale), seeds)


def _names(rows: Sequence[Row], start: str) -> list[str]:
    """The arms of one kind that the table has."""
    return [name for name in dict.fromkeys(row["cell"] for row in rows) if name.startswith(start)]


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """Every arm of one kind against every arm of the other; the intervals hold for all of them together."""
    kinds = {kind: _names(rows, kind) for kind in ("BMG", "MG", "fixed")}
    pairs = [
        (better, worse)
        for first, second in (("BMG", "MG"), ("MG", "fixed"), ("BMG", "fixed"))
        for better in kinds[first]
        for worse in kinds[second]
    ]
    return [_told_apart(rows, better, worse, len(pairs)) for better, worse in pairs]


def _told_apart(rows: Sequence[Row], better: str, worse: str, claims: int) -> Verdict:
    """Unpaired: lives of one seed begin alike, but part at the first update, and a pair cancels nothing."""
    high, low = by_seed(rows, better), by_seed(rows, worse)
    claim = f"{better} earns more over the life than {worse}"
    verdict = is_above(claim, high, low, " reward a step", claims, paired=False)
    if verdict.verdict != "undecided" or len(high) < 2:
        return verdict
    seeds = seeds_to_tell(high, low, claims)
    return verdict._replace(measured=f"{verdict.measured}; 80 % power would take n = {seeds:,}")


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    every, learned = _names(rows, ""), _names(rows, "MG") + _names(rows, "BMG")
    caption = "Reward a step, mean and 95 % interval over seeds; the two objects swap their rewards at each dip"
    figures = [draw_curves(rows, every, "reward", "reward a step", out / "reward.png", caption)]
    path, caption = out / "entropy_weight.png", "The entropy weight that the meta-gradients choose"
    figures.append(draw_curves(rows, learned, "meta/entropy_weight", "entropy weight", path, caption))
    return figures


def setting(scale: str) -> str:
    return (
        f"One stream of {STEPS[scale]:,} steps, rewards swapped every {SWITCH[scale]:,}; actor-critic, mlp 256-256, SGD"
        " 0.1, rollouts of 16, γ 0.99, on-policy. The entropy weight is a network of the last 10 mean rewards, in"
        " (0, 1); it starts at 0.1. η's Adam: 1e-3. Intervals of differences (unpaired, Welch's t) hold for all claims"
        " together (Bonferroni)."
    )


STUDY = Study(
    title="Bootstrapped meta-gradients on Two Colors",
    question=(
        "Flennerhag et al. 2021 (Section 5.1) claim that BMG adapts to swapping rewards better than the plain"
        " meta-gradient (MG), which is better than a fixed entropy weight."
    ),
    minutes={
        "smoke": "20 s",
        "small": "13 min",
        "paper": "two days (projected from `small`: 4 ms a life's update of η)",
    },
    seeds={"smoke": 2, "small": 10, "paper": 50},
    cells=_cells,
    run=run_arm,
    judge=judge,
    draw=draw,
    setting=setting,
)
