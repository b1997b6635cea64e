"""Our own question: in one long life, does a sampling correction pay, and where?"""

import itertools
from collections.abc import Sequence
from pathlib import Path

from configs.experiment import ExperimentConfig
from configs.tree import override
from scripts.studies import self_tuning
from scripts.studies.arms import by_seed, cells, draw_curves, run_arm
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.statistics import is_above

STEPS = {"smoke": 6_400, "small": 320_000, "paper": 10_000_000}
WINDOWS = {"smoke": (2,), "small": (3, 10), "paper": (3, 5, 10, 20)}
LAMBDAS = {"smoke": (0.0, 0.1), "small": (0.0, 0.01, 0.1, 1.0), "paper": (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)}
LAGS = {"smoke": ("0",), "small": ("0", "1"), "paper": ("0", "1")}
SWAPS = 4  # halves of the world in a life


def _arm(window: int, weight: float, lag: str) -> str:
    return f"K={window} λ={weight:g} lag={lag}"


def arms(scale: str) -> dict[str, ExperimentConfig]:
    """STAC on Two Colors, scored by all batches of the window."""
    base = override(
        self_tuning.experiment("two_colors", "good", True, scale),
        {
            "frames": STEPS[scale],
            "environment.switch_steps": STEPS[scale] // 16 // SWAPS,
            "meta_gradient.objective": "all",
        },
    )
    grid = itertools.product(WINDOWS[scale], LAGS[scale], LAMBDAS[scale])
    return {
        _arm(window, weight, lag): override(base, {"window": window, "correction": weight, "lag": lag})
        for window, lag, weight in grid
    }


def _cells(scale: str, seeds: int) -> list[Cell]:
    return cells(arms(scale), seeds)


def _lived(rows: Sequence[Row]) -> dict[tuple[int, str], list[float]]:
    """(K, lag) -> the λ that the table has, in order."""
    found: dict[tuple[int, str], list[float]] = {}
    for name in dict.fromkeys(row["cell"] for row in rows):
        window, weight, lag = (part.split("=")[1] for part in name.split())
        found.setdefault((int(window), lag), []).append(float(weight))
    return found


def judge(rows: Sequence[Row]) -> list[Verdict]:
    found = _lived(rows)
    claims = 2 * sum(len(weights) - 1 for weights in found.values())  # of return, and of noise
    verdicts = []
    for (window, lag), weights in found.items():
        none = by_seed(rows, _arm(window, 0.0, lag))
        for weight in weights[1:]:
            claim = f"K = {window}, lag {lag}: λ = {weight:g} earns more over the life than λ = 0"
            corrected = by_seed(rows, _arm(window, weight, lag))
            verdicts.append(is_above(claim, corrected, none, " reward a step", claims))
            claim = f"K = {window}, lag {lag}: the running estimate's signal-to-noise ratio is lower at λ = {weight:g}"
            ratio = [by_seed(rows, _arm(window, w, lag), "meta_grad/snr") for w in (0.0, weight)]
            verdicts.append(is_above(claim, *ratio, claims=claims))
    return verdicts


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    figures = []
    for (window, lag), weights in _lived(rows).items():
        own = [_arm(window, weight, lag) for weight in weights]
        path = out / f"K{window}_lag{lag}.png"
        caption = f"K = {window}, lag {lag}: reward a step, mean and 95 % interval over seeds"
        figures.append(draw_curves(rows, own, "reward", "reward a step", path, caption))
    return figures


def setting(scale: str) -> str:
    return (
        f"STAC on Two Colors, scored by all batches of its window; 16 streams of {STEPS[scale] // 16:,} steps in one"
        f" life, rewards swapped {SWAPS - 1} times; mlp 64-64, Adam 1e-3, unroll 20; η's Adam 3e-3. λ weighs the sum of"
        " the scores of 320 actions. Intervals hold for all claims together (Bonferroni)."
    )


STUDY = Study(
    title="Does a sampling correction pay in one long life?",
    question=(
        "No DICE leaves the reinforcement learning case, with time inside one life, as open work. Here: lifetime return"
        " on a world that changes, against λ, for two window lengths and two policy lags."
    ),
    minutes={"smoke": "1 min", "small": "not measured", "paper": "not measured"},
    seeds={"smoke": 2, "small": 10, "paper": 30},
    cells=_cells,
    run=run_arm,
    judge=judge,
    draw=draw,
    setting=setting,
)
