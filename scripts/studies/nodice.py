"""What the studies of No DICE (Vuorio et al. 2021) share: its bandit, its estimators, and learning η with them."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from agents.config import InnerLossConfig, OuterLossConfig
from configs.experiment import ExperimentConfig
from configs.presets import preset
from configs.tree import override
from learner.config import InnerOptimizerConfig, MetaGradientConfig, MetaOptimizerConfig
from scripts.intervals import draw_interval
from scripts.lives import Lives
from scripts.studies.base import Row

UPDATES = 29  # a life is 30 batches of 10 pulls
NAMES = ("early", "late")
OF_A_UNIFORM_POLICY = np.e / 101  # mean reward a pull of a life's first batch: E[exp(u)], u uniform over [-100, 1]
FINITE_DIFFERENCES, NAIVE, CORRECTED = "finite differences", "naive", "corrected"
DICE, DICE_CORRECTED = "DiCE", "DiCE corrected"
ESTIMATORS: dict[str, dict[str, Any]] = {
    # Half of the authors' width 0.1
    FINITE_DIFFERENCES: {
        "meta_gradient.differentiation": "finite_differences",
        "meta_gradient.standard_deviation": 0.05,
    },
    NAIVE: {},
    CORRECTED: {"correction": 1.0},
    DICE: {"inner.surrogate": "dice"},
    DICE_CORRECTED: {"inner.surrogate": "dice", "correction": 1.0},
}
CHUNK = 1_000  # lives side by side where η is only looked at
LIVES_OF_A_SEED = 1_000_000  # seeds of lives: the lower half to learn by, the upper to look and judge by


def bandit() -> ExperimentConfig:
    """No DICE's bandit with the whole life as its window (Vuorio et al. 2021, Appendix B)."""
    return dataclasses.replace(
        preset("smoke"),
        agent="bandit",
        game="bandit",
        streams=10,
        unroll=1,
        window=UPDATES,
        lag="0",
        correction=0.0,
        inner=InnerLossConfig(reward_clip=0.0, reduction="mean"),
        outer=OuterLossConfig(kl_weight=0.0),
        optimizer=InnerOptimizerConfig(name="sgd", learning_rate=1.0, anneal=False, max_grad_norm=0.0),
        meta_optimizer=MetaOptimizerConfig(name="sgd", learning_rate=0.0),
        meta_gradient=MetaGradientConfig(objective="all", baseline="none", diagnostics=0),
    )


class Learning(NamedTuple):
    """How η is learned: by lives side by side that share it. Each is one window, then born anew with another task."""

    settings: dict[str, Any]  # of the estimator, its window and η's optimiser
    starts: Sequence[tuple[float, float]]  # raw η; each of them with every seed, and with other lives
    seeds: int
    updates: int  # of η
    lives: int  # whose meta-gradients make one update
    points: int  # of η along the way that are looked at
    looks: int  # lives that look at each
    judges: int  # lives that look at the last
    life: int  # in updates


def learn(learning: Learning, tell: Callable[[float], None]) -> list[Row]:
    """A row for each start, seed and point: the update, raw η there, and the mean reward of other lives at it.

    Every start learns by lives of its own; all of a seed are looked at and judged by the same.
    """
    config = override(bandit(), {"window": learning.life} | learning.settings)
    lives = Lives(config, shared=True, own_tasks=True, lifetime=1, skip=learning.life - config.window)
    runs = [(start, seed) for start in learning.starts for seed in range(learning.seeds)]
    chunk = learning.updates // learning.points
    rows: list[Row] = []
    for index, (start, seed) in enumerate(runs):
        first = index * LIVES_OF_A_SEED
        born = {name: np.full(learning.lives, value, np.float32) for name, value in zip(NAMES, start, strict=True)}
        state, passed = lives.start(range(first, first + learning.lives), born), [start]
        for point in range(learning.points):
            state, _ = lives.run(state, chunk)
            passed.append(tuple(float(state.learner.meta.params[name][0]) for name in NAMES))
            tell((index + (point + 1) / learning.points) / len(runs))
        seen = mean_rewards(passed[:-1], seed, learning.looks, learning.life)
        judged = mean_rewards(passed[-1:], seed, learning.judges, learning.life)
        run = {"start": str(start), "seed": seed}
        rows += [
            run | {"update": chunk * point, "early": eta[0], "late": eta[1]} | by_half(rewards)
            for point, (eta, rewards) in enumerate(zip(passed, (*seen, *judged), strict=True))
        ]
    return rows


def mean_rewards(points: Sequence[tuple[float, float]], seed: int, count: int, life: int) -> np.ndarray:
    """[points, 2] mean reward a pull of either half of `count` lives with η held still: the same lives for all that
    name this seed."""
    world, first = _still(), seed * LIVES_OF_A_SEED + LIVES_OF_A_SEED // 2
    means = []
    for point in points:
        parts = []
        for begin in range(first, first + count, CHUNK):
            seeds = range(begin, min(begin + CHUNK, first + count))
            born = {name: np.full(len(seeds), value, np.float32) for name, value in zip(NAMES, point, strict=True)}
            _, records = world.run(world.start(seeds, born), life)
            parts.append(np.asarray(records["reward"], np.float64).sum(axis=(1, 2)))
        halves = np.array_split(np.concatenate(parts), 2)
        means.append([(half.mean() + OF_A_UNIFORM_POLICY) / (life + 1) for half in halves])
    return np.array(means)


def by_half(rewards: np.ndarray) -> Row:
    """Columns of a row of `mean_rewards`."""
    return {"reward": rewards.mean(), "first_half": rewards[0], "second_half": rewards[1]}


@functools.cache
def _still() -> Lives:
    """Lives that keep their η, in windows of one update: the smallest program there is."""
    return Lives(override(bandit(), {"window": 1}), own_tasks=True)


def ends(rows: Sequence[Row], arm: str, column: str = "reward") -> np.ndarray:
    """[starts × seeds] a column at the end of every run of an arm."""
    own = [row for row in rows if row["cell"] == arm]
    last = max(row["update"] for row in own)
    return np.array([row[column] for row in own if row["update"] == last])


def learned(rows: Sequence[Row], prefix: str = "") -> list[str]:
    """Those of the five estimators whose cell, named with the prefix, the table has."""
    cells = {row["cell"] for row in rows}
    return [name for name in ESTIMATORS if prefix + name in cells]


def paths(rows: Sequence[Row], arm: str, column: str) -> tuple[np.ndarray, np.ndarray]:
    """[points] updates and [starts × seeds, points] a column along every run of an arm."""
    own = [row for row in rows if row["cell"] == arm]
    updates = sorted({row["update"] for row in own})
    return np.array(updates), np.array([row[column] for row in own]).reshape(-1, len(updates))


def draw_paths(axes: Any, rows: Sequence[Row], arms: dict[str, str]) -> None:
    """Label -> arm: the mean reward along the updates of η, mean and 95 % interval over runs."""
    for label, arm in arms.items():
        updates, values = paths(rows, arm, "reward")
        draw_interval(axes, updates, values.T, label)
    axes.set(xlabel="updates of η", ylabel="mean reward a pull")
    axes.legend()
