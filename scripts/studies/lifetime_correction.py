"""Our own question: in one long life, does a sampling correction pay, and where?"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from configs.experiment import ExperimentConfig
from configs.tree import override
from scripts.lives import Lives
from scripts.studies import self_tuning
from scripts.studies.arms import by_seed, draw_curves, live
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.still import Still, draw_errors, draw_planes, judge_still, judge_variant, look
from scripts.studies.verdicts import is_above

STEPS = {"smoke": 6_400, "small": 240_000, "paper": 10_000_000}
LAMBDAS = {"smoke": (0.0, 1.0), "small": (0.0, 0.01, 0.1, 1.0), "paper": (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)}
GAMMA = 0.9  # of the outer loss: both worlds are learned within a part of a life
BIRTH = 0.5  # γ of the inner loss at birth, so that there is something to gain
TUNED = ("gamma", "entropy_weight")
# Where η is held still: finite differences need two more copies of a life for each parameter, and a part of the life
# is enough.
LOOKED_AT = ("gamma",)
LOOKED_AT_STEPS = STEPS | {"small": 144_000}
SWAPS = 4  # parts of a life; at the end of each the world swaps
WIDTH = 0.5  # of finite differences, to either side, in raw units of η


class Lived(NamedTuple):
    """The lives of a group: every seed with every λ, side by side in one program."""

    config: ExperimentConfig  # with λ = 1
    weights: tuple[float, ...]  # λ
    seeds: int


class Grid(NamedTuple):
    """What is lived in one world: every window at every lag, with every λ."""

    windows: tuple[int, ...]
    lags: tuple[str, ...]
    still: tuple[int, ...]  # windows whose estimates are compared with the truth, too, with η held still


GRIDS = {
    "smoke": {"catch": Grid((2,), ("0",), (2,))},
    "small": {"two_colors": Grid((3, 5), ("0", "1"), (3, 5)), "catch": Grid((3, 5), ("0", "1"), (3, 5))},
    "paper": {
        "two_colors": Grid((3, 5, 10, 20), ("0", "1"), (3, 10)),
        "catch": Grid((3, 5, 10, 20), ("0", "1"), (3, 10)),
    },
}
RETURNS_ALONE = {"outer.value_weight": 0.0, "outer.entropy_weight": 0.0}  # what the outer loss scores η by
STILL = ", η still"
NOT_CLIPPED = ", ratios not clipped"
# Where estimates are looked at without a correction alone: (window, lag) on Two Colors, and what is set otherwise.
VARIANTS = {
    ", STAC's outer loss": (5, "0", {"outer.value_weight": 0.25, "outer.entropy_weight": 0.01}),
    NOT_CLIPPED: (3, "1", {"inner.rho_clip": 1e6}),
}
TRUTH = {"meta_gradient.differentiation": "finite_differences", "meta_gradient.standard_deviation": WIDTH}


def _group(world: str, window: int, lag: str) -> str:
    return f"{world}, K = {window}, lag {lag}"


def _arm(group: str, weight: float) -> str:
    return f"{group}: λ = {weight:g}"


def experiment(world: str, window: int, lag: str, scale: str, settings: dict[str, Any]) -> ExperimentConfig:
    """STAC, scored by all batches of its window."""
    swap = STEPS[scale] // 16 // SWAPS
    base = self_tuning.experiment(world, "good", True, scale)
    base = dataclasses.replace(base, meta_init=dataclasses.replace(base.meta_init, gamma=self_tuning.raw(BIRTH)))
    own = {
        "self_tuned.parameters": TUNED,
        "outer.gamma": GAMMA,
        "optimizer.learning_rate": 3e-3,
        "frames": STEPS[scale],
        "environment.switch_steps": swap,
        "environment.catch_switch_steps": swap,
        "meta_gradient.objective": "all",
        "correction": 0.0,
        "meta_gradient.baseline_decay": 0.9,  # the world swaps
        "meta_gradient.diagnostics": 0,  # nothing here asks how the two parts compare
        "window": window,
        "lag": lag,
    }
    return override(base, own | RETURNS_ALONE | settings)


def _cells(scale: str, seeds: int) -> list[Cell]:
    cells = []
    for world, grid in GRIDS[scale].items():
        for window, lag in itertools.product(grid.windows, grid.lags):
            config = experiment(world, window, lag, scale, {"correction": 1.0})
            cells.append(Cell(_group(world, window, lag), Lived(config, LAMBDAS[scale], seeds)))
        for window, lag in itertools.product(grid.still, grid.lags):
            cells.append(_still_cell((world, window, lag), scale, seeds, "", {}, 1.0))
    if scale != "smoke":
        for variant, (window, lag, settings) in VARIANTS.items():
            cells.append(_still_cell(("two_colors", window, lag), scale, seeds, variant, settings, 0.0))
    return cells


def _still_cell(
    where: tuple[str, int, str], scale: str, seeds: int, variant: str, settings: dict[str, Any], weight: float
) -> Cell:
    """`where`: world, window and lag."""
    still = {
        "self_tuned.parameters": LOOKED_AT,
        "frames": LOOKED_AT_STEPS[scale],
        "meta_optimizer.learning_rate": 0.0,
        "meta_gradient.diagnostics": 1,  # tells the two parts apart
    } | settings
    estimate, truth = (experiment(*where, scale, still | own) for own in ({"correction": weight}, TRUTH))
    return Cell(_group(*where) + variant + STILL, Still(estimate, truth, LOOKED_AT, seeds))


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """The course of a group's lives; with η held still, a row for each life and meta-parameter."""
    del out
    if isinstance(cell.content, Still):
        return look(cell, tell)
    config, weights, seeds = cell.content
    tell(f"{cell.name}: compiling", 0.0)
    lives, scales = Lives(config), [weight for weight in weights for _ in range(seeds)]
    windows = round(config.frames / lives.steps_per_window)
    _, rows = live(lives, [*range(seeds)] * len(weights), windows, lambda part: tell(cell.name, part), scales)
    # For each part of a life the rows of all lives, in their order.
    return [{"lambda": weight} | row for weight, row in zip(itertools.cycle(scales), rows, strict=False)]


def _lived(rows: Sequence[Row]) -> tuple[dict[str, list[float]], list[Row]]:
    """Group -> the λ that the table has, in order; and the rows of lives, each as of the arm with its λ."""
    own = [row for row in rows if STILL not in row["cell"]]
    found: dict[str, list[float]] = {}
    for group, weight in dict.fromkeys((row["cell"], row["lambda"]) for row in own):
        found.setdefault(group, []).append(weight)
    return found, [row | {"cell": _arm(row["cell"], row["lambda"])} for row in own]


def _still(rows: Sequence[Row]) -> list[str]:
    return [name for name in dict.fromkeys(row["cell"] for row in rows) if STILL in name]


def judge(rows: Sequence[Row]) -> list[Verdict]:
    (lived, arms), still = _lived(rows), _still(rows)
    claims = sum(len(weights) - 1 for weights in lived.values())
    verdicts = []
    for group, weights in lived.items():
        none = by_seed(arms, _arm(group, 0.0))
        for weight in weights[1:]:
            claim = f"{group}: λ = {weight:g} earns more over the life than λ = 0"
            verdicts.append(is_above(claim, by_seed(arms, _arm(group, weight)), none, " reward a step", claims))
    verdicts += judge_still(rows, still, LOOKED_AT)
    for variant in still:
        if NOT_CLIPPED in variant:
            verdicts += judge_variant(rows, variant.replace(NOT_CLIPPED, ""), variant, *LOOKED_AT)
    return verdicts


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    figures = []
    lived, arms = _lived(rows)
    for group, weights in lived.items():
        path = out / f"{group.replace(', ', '_').replace(' ', '')}.png"
        caption = f"{group}: reward a step, mean and 95 % interval over seeds"
        names = [_arm(group, weight) for weight in weights]
        figures.append(draw_curves(arms, names, "reward", "reward a step", path, caption))
    corrected = [group for group in _still(rows) if not any(variant in group for variant in VARIANTS)]
    for world in dict.fromkeys(group.split(",")[0] for group in corrected):
        own = [group for group in corrected if group.startswith(world)]
        figures.append(draw_planes(rows, own, LOOKED_AT[0], out / f"{world}_plane.png"))
        figures.append(draw_errors(rows, own, LOOKED_AT, out / f"{world}_errors.png"))
    return figures


def setting(scale: str) -> str:
    return (
        f"STAC with γ (at birth {BIRTH:g}) and the entropy weight self-tuned, scored by all batches of its window;"
        f" 16 streams of {STEPS[scale] // 16:,} steps in one life. Two Colors swaps its rewards {SWAPS - 1} times,"
        f" Catch left and right; mlp 64-64, Adam 3e-3, unroll 20; η's Adam {self_tuning.META_RATE:g}; the outer γ' is"
        f" {GAMMA:g}. The outer loss is the policy gradient alone, so that it stands for the return. λ weighs the sum"
        f" of 320 scores; the lives with each λ have the same seeds. With η held still and γ alone"
        f" in it, one life a seed is looked at, for {LOOKED_AT_STEPS[scale] // 16:,} steps, the same by every estimate:"
        " by its direct part, by the correction at λ = 1, and by finite differences of the return of copies that act"
        f" the window at raw η ± {WIDTH:g} with the life's random numbers. Any λ is a mix of the first"
        " two. Derivatives are those of the outer loss: negative where more of a parameter earns more. Intervals hold"
        " for all claims of a kind together (Bonferroni)."
    )


STUDY = Study(
    title="Does a sampling correction pay in one long life?",
    question=(
        "No DICE leaves the reinforcement learning case, with time inside one life, as open work. Here: a life's"
        " return, and the running estimate's bias and variance, on worlds that change, against λ, window and policy"
        " lag."
    ),
    minutes={
        "smoke": "20 s",
        "small": "8 min",
        "paper": "14 h (projected from `small`: 0.8 ms an update of a life, twice that with η held still)",
    },
    seeds={"smoke": 2, "small": 20, "paper": 30},
    cells=_cells,
    run=run,
    judge=judge,
    draw=draw,
    setting=setting,
)
