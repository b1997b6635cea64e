"""A whole update rule, learned on many small worlds: is it better than its untrained start where it has not been?"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from agents.config import InnerLossConfig, NetworkConfig, OuterLossConfig
from agents.rules import save_rule
from configs.experiment import ExperimentConfig
from configs.presets import preset
from configs.tree import override
from learner.config import InnerOptimizerConfig, MetaOptimizerConfig
from scripts.lives import Lives
from scripts.parse import writing
from scripts.studies.arms import draw_curves, live
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.verdicts import is_above

RULES = {"smoke": 1, "small": 4, "paper": 8}
LIVES = {"smoke": 4, "small": 48, "paper": 512}
META_UPDATES = {"smoke": 4, "small": 400, "paper": 20_000}
META_RATE = 1e-3
LIFETIME = 80  # windows
UPDATES = {"smoke": 20, "small": 400, "paper": 400}  # of the lives that test the rules
WORLDS = {"grid 5": {"environment.grid_size": 5}, "grid 7": {"environment.grid_size": 7}, "catch": {"game": "catch"}}
RATES = (1.0, 3.0, 6.0)  # of A2C; the best of them counts
UNSEEN = 1_000_000  # seeds of tests start here: tasks that training has not seen
TRAINING, UNTRAINED, LEARNED = "training", "untrained rule", "learned rule"


class Rule(NamedTuple):
    """One rule: trained on lives of its own, then tested on tasks of its own."""

    scale: str
    index: int
    tasks: tuple[int, ...]


class Fixed(NamedTuple):
    """A2C at one rate, on the tasks of all rules."""

    scale: str
    world: str
    rate: float
    tasks: tuple[int, ...]


def experiment(agent: str, scale: str, rate: float = 3.0, **settings) -> ExperimentConfig:
    """A tabular agent (one linear layer) of 16 streams and rollouts of 20, on-policy, plain SGD."""
    base = dataclasses.replace(
        preset("catch_lpg"),
        game="grid",
        agent=agent,
        streams=16,
        lag="0",
        frames=UPDATES[scale] * 16 * 20,
        window=1 if scale == "smoke" else 5,
        network=NetworkConfig(torso="mlp", hidden=()),
        inner=InnerLossConfig(gamma=0.95, value_weight=0.5, entropy_weight=0.01, reduction="mean"),
        outer=OuterLossConfig(gamma=0.95, value_weight=0.5, entropy_weight=0.05, kl_weight=0.0),
        optimizer=InnerOptimizerConfig(name="sgd", learning_rate=rate, anneal=False, max_grad_norm=0.0),
        meta_optimizer=MetaOptimizerConfig(learning_rate=META_RATE, eps=1e-8, max_grad_norm=0.1),
    )
    return override(base, settings)


def _cells(scale: str, seeds: int) -> list[Cell]:
    tasks, rules = tuple(range(seeds)), RULES[scale]
    found = [Cell(f"rule {index + 1}", Rule(scale, index, tasks[index::rules])) for index in range(rules)]
    return found + [
        Cell(_a2c(world, rate), Fixed(scale, world, rate, tasks))
        for world in _worlds(scale)
        for rate in RATES[: 1 if scale == "smoke" else None]
    ]


def _worlds(scale: str) -> list[str]:
    return list(WORLDS)[: 1 if scale == "smoke" else None]


def _a2c(world: str, rate: float) -> str:
    return f"{world}: A2C, rate {rate:g}"


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """Rows with an "arm": a rule's training and, in each world, its lives at birth and learned; or A2C's lives.

    The rule is kept in `out`.
    """
    tell(f"{cell.name}: compiling", 0.0)
    point = cell.content
    if isinstance(point, Fixed):
        config = experiment("impala", point.scale, rate=point.rate)
        return _tested(config, point, point.world, cell.name, lambda part: tell(cell.name, part))
    scale, index, _ = point
    lives = Lives(experiment("lpg", scale), shared=True, own_tasks=True, lifetime=LIFETIME, staggered=True)
    seeds = range(index * LIVES[scale], (index + 1) * LIVES[scale])
    state, rows = live(lives, seeds, META_UPDATES[scale], lambda part: tell(f"{cell.name}, training", 0.8 * part))
    rows = [row | {"arm": TRAINING} for row in _means(rows)]
    for arm, life in ((UNTRAINED, lives.start(seeds)), (LEARNED, state)):
        file = out / f"{arm.replace(' ', '_')}_{index + 1}.npz"
        with writing("--out", file):
            save_rule(file, jax.tree.map(lambda x: x[0], life.learner.meta.params))
        config = experiment("lpg", scale, **{"lpg.rule": str(file)})
        for world in _worlds(scale):
            tell(f"{cell.name}, {world}: {arm}", 0.9)
            rows += _tested(config, point, world, f"{world}: {arm}", lambda part: None)
    return rows


def _tested(
    config: ExperimentConfig, point: Rule | Fixed, world: str, arm: str, tell: Callable[[float], None]
) -> list[Row]:
    lives = Lives(override(config, WORLDS[world]), own_tasks=WORLDS[world].get("game") is None)
    windows = UPDATES[point.scale] // lives.learner.span
    _, rows = live(lives, [UNSEEN + task for task in point.tasks], windows, tell)
    return [row | {"arm": arm} for row in rows]


def _means(rows: Sequence[Row]) -> list[Row]:
    """Over all lives: of training only the common course is kept."""
    steps = sorted({row["steps"] for row in rows})
    of_step = {step: [row for row in rows if row["steps"] == step] for step in steps}
    return [
        {"seed": 0, "steps": step, "reward": sum(row["reward"] for row in own) / len(own)}
        for step, own in of_step.items()
    ]


def _by_rule(rows: Sequence[Row], arm: str) -> np.ndarray:
    """[rules] an arm's mean over each rule's tasks."""
    rules = list(dict.fromkeys(row["cell"] for row in rows if row["arm"].endswith(LEARNED)))
    tasks = [{row["seed"] for row in rows if row["cell"] == rule and row["arm"].endswith(LEARNED)} for rule in rules]
    own = [row for row in rows if row["arm"] == arm]
    return np.array([np.mean([row["reward"] for row in own if row["seed"] in of_rule]) for of_rule in tasks])


def _arms(rows: Sequence[Row], world: str) -> list[str]:
    return [arm for arm in dict.fromkeys(row["arm"] for row in rows) if arm.startswith(f"{world}:")]


def _rates(rows: Sequence[Row], world: str) -> str:
    """Those of A2C that the table has, in words."""
    *others, last = [arm.split()[-1] for arm in _arms(rows, world) if "A2C" in arm]
    return f"rates {', '.join(others)} or {last}, the best of them" if others else f"rate {last}"


def judge(rows: Sequence[Row]) -> list[Verdict]:
    verdicts, worlds = [], [world for world in WORLDS if _arms(rows, world)]
    claims = 2 * len(worlds)
    for world in worlds:
        learned, untrained = (_by_rule(rows, f"{world}: {arm}") for arm in (LEARNED, UNTRAINED))
        a2c = max((_by_rule(rows, arm) for arm in _arms(rows, world) if "A2C" in arm), key=lambda x: x.mean())
        seen = "unseen tasks of the family" if world == "grid 5" else "a world it was not trained in"
        claim = f"{world} ({seen}): the learned rule earns more over a life than"
        verdicts.append(is_above(f"{claim} its untrained start", learned, untrained, " reward a step", claims))
        verdicts.append(is_above(f"{claim} A2C at {_rates(rows, world)}", learned, a2c, " reward a step", claims))
    return verdicts


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    by_arm = [row | {"cell": row["arm"]} for row in rows]
    training = [row for row in rows if row["arm"] == TRAINING]
    rules = list(dict.fromkeys(row["cell"] for row in training))
    caption = "Training: reward a step, mean over a rule's lives, which are of all ages up to 400 updates"
    figures = [draw_curves(training, rules, "reward", "reward a step", out / "training.png", caption)]
    for world in (world for world in WORLDS if _arms(rows, world)):
        path, caption = out / f"{world.replace(' ', '_')}.png", f"{world}: reward a step, mean and 95 % over tasks"
        figures.append(draw_curves(by_arm, _arms(rows, world), "reward", "reward a step", path, caption))
    return figures


def setting(scale: str) -> str:
    config = experiment("lpg", scale)
    lpg, eta, rates = config.lpg, config.meta_optimizer, ", ".join(f"{rate:g}" for rate in RATES)
    return (
        f"The rules: backward LSTM of {lpg.hidden}, {lpg.predictions} predictions, {RULES[scale]} of them, each trained"
        f" by {META_UPDATES[scale]:,} steps of Adam ({eta.learning_rate:g}, gradients clipped at {eta.max_grad_norm:g})"
        f" on {LIVES[scale]} lives side by side, each on a 5x5 grid of its own, K = {config.window}, {LIFETIME} windows"
        f" a life, outer entropy weight {config.outer.entropy_weight:g}, L2 penalties {lpg.direction_penalty:g}. Each"
        f" is tested on unseen tasks of its own, over {UPDATES[scale]} updates: tabular agents, 16 streams, rollouts of"
        f" 20, SGD (rate {config.optimizer.learning_rate:g} for the rules; A2C, on all the tasks, at the best of"
        f" {rates}). Intervals of claims are over rules, each of which counts by its tasks' mean, and hold for"
        " all claims together (Bonferroni)."
    )


STUDY = Study(
    title="LPG: update rules learned on small grid worlds",
    question=(
        "Oh et al. 2020 learn the whole update rule on toy worlds and find that it carries over to others. Here: does a"
        " rule learned on random 5x5 grids beat its untrained start, and A2C, on tasks and worlds it has not seen?"
    ),
    minutes={
        "smoke": "20 s",
        "small": "13 min",
        "paper": "10 days (projected from `small`: 0.5 s an update of η by 48 lives)",
    },
    seeds={"smoke": 2, "small": 20, "paper": 50},
    cells=_cells,
    run=run,
    judge=judge,
    draw=draw,
    setting=setting,
)
