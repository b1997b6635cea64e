"""Does an agent that tunes itself recover from bad hyperparameters, and lose nothing where they were good?"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agents.config import MetaInitConfig, SelfTunedConfig
from configs.experiment import ExperimentConfig
from configs.presets import preset
from configs.tree import override
from scripts.studies.arms import by_seed, cells, draw_curves, run_arm
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.verdicts import is_above, is_not_below

ENTROPY_BOUND = 0.5


def raw(value: float, bound: float = 1.0) -> float:
    """Of a meta-parameter that is `bound` times a sigmoid."""
    return math.log(value / (bound - value))


class World(NamedTuple):
    gamma: float  # a good one, and that of the outer loss
    learning_rate: float
    outer_entropy: float  # weight of the entropy in the outer loss


# On Two Colors γ = 0.99 sees too far for lives that swap so soon, and with an outer entropy weight of 0.01 the agent's
# own sinks to 0.005, with which it is slow to learn anew after a swap.
WORLDS = {"catch": World(0.99, 1e-3, 0.01), "two_colors": World(0.9, 3e-3, 0.02)}
LOW_GAMMA, ENTROPY, HIGH_ENTROPY = 0.1, 0.01, 0.3
STARTS = ("good", "low gamma", "high entropy")  # good values, then one of them wrong
OTHER_LOSS = "good, outer entropy 0.01"  # on Two Colors, with the presets' own weight in the outer loss
STEPS = {"smoke": 4_000, "small": 400_000, "paper": 4_000_000}
META_RATE = 0.03  # of η's Adam: a life at `small` has 312 steps of η, and a start may be seven raw units away
MARGIN = 0.005  # reward a step: 6 % of what the good start earns on Catch, 8 % on Two Colors


def experiment(game: str, start: str, tuned: bool, scale: str) -> ExperimentConfig:
    """STAC on the smoke preset's network; the fixed agent is the same one with η held still."""
    world, base = WORLDS[game], preset("smoke")
    config = override(
        base,
        {
            "game": game,
            "frames": STEPS[scale],
            "window": 1 if scale == "smoke" else 4,
            "correction": 0.0 if scale == "smoke" else 0.01,
            "lag": "0",
            "streams": 16,
            "environment.switch_steps": STEPS[scale] // 16 // 4,  # four halves of the world in a life
            "outer.gamma": world.gamma,
            "outer.entropy_weight": 0.01 if start == OTHER_LOSS else world.outer_entropy,
            "outer.kl_weight": 0.0,
            "optimizer.learning_rate": world.learning_rate,
            "meta_optimizer.learning_rate": META_RATE if tuned else 0.0,
        },
    )
    return dataclasses.replace(
        config,
        self_tuned=SelfTunedConfig(entropy_bound=ENTROPY_BOUND),
        meta_init=MetaInitConfig(
            gamma=raw(LOW_GAMMA if start == "low gamma" else world.gamma),
            entropy_weight=raw(HIGH_ENTROPY if start == "high entropy" else ENTROPY, ENTROPY_BOUND),
        ),
    )


def _arm(game: str, start: str, tuned: bool) -> str:
    return f"{game}, {start}, {'self-tuned' if tuned else 'fixed'}"


def _cells(scale: str, seeds: int) -> list[Cell]:
    few = scale == "smoke"
    arms = {
        _arm(game, start, tuned): experiment(game, start, tuned, scale)
        for game in list(WORLDS)[: 1 if few else None]
        for start in (("low gamma",) if few else STARTS)
        for tuned in (True, False)
    }
    if not few:
        arms[_arm("two_colors", OTHER_LOSS, True)] = experiment("two_colors", OTHER_LOSS, True, scale)
    return cells(arms, seeds)


def _lived(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The (game, start) that the table has."""
    names = {row["cell"] for row in rows}
    return [(game, start) for game in WORLDS for start in STARTS if _arm(game, start, True) in names]


def judge(rows: Sequence[Row]) -> list[Verdict]:
    compared = list(_comparisons(rows))
    return [
        test(claim, one, other, unit=" reward a step", claims=len(compared)) for test, claim, one, other in compared
    ]


def _comparisons(rows: Sequence[Row]) -> Iterator[tuple[Callable[..., Verdict], str, np.ndarray, np.ndarray]]:
    loses_nothing = functools.partial(is_not_below, margin=MARGIN)
    for game, start in _lived(rows):
        tuned, fixed = (by_seed(rows, _arm(game, start, flag)) for flag in (True, False))
        if start == "good":
            claim = f"{game}: with this outer loss self-tuning loses nothing from good hyperparameters"
            yield loses_nothing, claim, tuned, fixed
            continue
        claim = f"{game}: started from {start}, self-tuning earns more over the life than staying there"
        yield is_above, claim, tuned, fixed
        if (game, "good") in _lived(rows):
            claim = f"{game}: {start} is a bad start: staying there earns less than staying at good values"
            yield is_above, claim, by_seed(rows, _arm(game, "good", False)), fixed
    other = _arm("two_colors", OTHER_LOSS, True)
    if any(row["cell"] == other for row in rows):
        claim = "two_colors: with an outer entropy weight of 0.01, too, it loses nothing from good hyperparameters"
        fixed = by_seed(rows, _arm("two_colors", "good", False))  # no outer loss moves what is held still
        yield loses_nothing, claim, by_seed(rows, other), fixed


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    figures = []
    for game in dict.fromkeys(game for game, _ in _lived(rows)):
        starts = [start for other, start in _lived(rows) if other == game]
        own = [_arm(game, start, True) for start in starts]
        arms = [arm for start in starts for arm in (_arm(game, start, True), _arm(game, start, False))]
        caption = f"{game}: reward a step, mean and 95 % interval over seeds"
        figures.append(draw_curves(rows, arms, "reward", "reward a step", out / f"{game}.png", caption))
        for name, label in (("gamma", "γ"), ("entropy_weight", "entropy weight")):
            path, caption = out / f"{game}_{name}.png", f"{game}: {label} of the self-tuning agents"
            figures.append(draw_curves(rows, own, f"meta/{name}", label, path, caption))
    return figures


def setting(scale: str) -> str:
    config = experiment("catch", "good", True, scale)
    worlds = "; ".join(
        f"on {game} γ {world.gamma} and Adam {world.learning_rate:g} (outer entropy weight {world.outer_entropy})"
        for game, world in WORLDS.items()
    )
    return (
        f"STAC (all six parameters, K = {config.window}, outer loss on the same batch and without a KL,"
        f" λ = {config.correction:g})"
        " against the same agent with η held still; mlp 64-64, 16 streams of"
        f" {STEPS[scale] // 16:,} steps, unroll 20, on-policy. η's Adam: {META_RATE:g}. Good: {worlds}, the outer loss'"
        f" γ' as γ, entropy weight {ENTROPY} (bound {ENTROPY_BOUND}). Bad starts: γ {LOW_GAMMA}, entropy weight"
        f" {HIGH_ENTROPY}. Two Colors swaps its rewards three times. Intervals over seeds hold for all claims together"
        " (Bonferroni)."
    )


STUDY = Study(
    title="Self-tuning from bad and from good hyperparameters",
    question=(
        "STAC (Zahavy et al. 2020) claims that an agent can tune its own hyperparameters while it learns. A self-tuning"
        " agent that starts badly should recover against one that stays there, and lose nothing from a good start."
    ),
    minutes={"smoke": "10 s", "small": "12 min", "paper": "2 h (projected from `small`: 4.5 ms a life's update of η)"},
    seeds={"smoke": 2, "small": 40, "paper": 40},
    cells=_cells,
    run=run_arm,
    judge=judge,
    draw=draw,
    setting=setting,
)
