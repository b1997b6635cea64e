"""Studies that compare arms: experiments that each live the same seeds, side by side in the graph."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from configs.experiment import ExperimentConfig
from scripts.figure import panels
from scripts.intervals import draw_interval
from scripts.lives import Life, Lives
from scripts.studies.base import Cell, Figure, Row

POINTS = 100  # how many rows of the table a life becomes


class Arm(NamedTuple):
    config: ExperimentConfig
    seeds: int
    own_tasks: bool = False  # each seed's life is on a task of its own


def cells(arms: dict[str, ExperimentConfig], seeds: int) -> list[Cell]:
    """One cell for each arm."""
    return [Cell(name, Arm(config, seeds)) for name, config in arms.items()]


def run_arm(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """All seeds of an arm, each a life of its own (see `live`)."""
    del out
    config, seeds, own_tasks = cell.content
    tell(f"{cell.name}: compiling", 0.0)
    lives = Lives(config, own_tasks=own_tasks)
    _, rows = live(lives, range(seeds), round(config.frames / lives.steps_per_window), lambda f: tell(cell.name, f))
    return rows


def live(
    lives: Lives,
    seeds: Sequence[int],
    windows: int,
    tell: Callable[[float], None],
    correction_scales: Sequence[float] | None = None,
) -> tuple[Life, list[Row]]:
    """The lives at their end, and a row for each of them and each hundredth of it: means over the steps in it.

    `correction_scales`: see `Lives.start`.
    """
    chunk = max(1, windows // POINTS)
    state, rows = lives.start(seeds, correction_scales=correction_scales), []
    for end in range(chunk, max(windows, chunk) + 1, chunk):
        state, records = lives.run(state, chunk)
        means = {
            name: np.asarray(value).reshape(len(seeds), -1).mean(axis=1)
            for name, value in records.items()
            if not name.startswith("meta_grad/of_")
        }
        rows += [
            {"seed": seed, "steps": end * lives.steps_per_window} | {name: float(v[i]) for name, v in means.items()}
            for i, seed in enumerate(seeds)
        ]
        tell(end / windows)
    return state, rows


def by_seed(rows: Sequence[Row], arm: str) -> np.ndarray:
    """[seeds] the mean reward over each life of an arm."""
    own = [row for row in rows if row["cell"] == arm]
    seeds = sorted({row["seed"] for row in own})
    return np.array([np.mean([row["reward"] for row in own if row["seed"] == seed]) for seed in seeds])


def curve(rows: Sequence[Row], arm: str, column: str) -> tuple[np.ndarray, np.ndarray]:
    """[points] steps and [points, seeds] values of a column."""
    own = [row for row in rows if row["cell"] == arm and row.get(column, "") != ""]
    steps = sorted({row["steps"] for row in own})
    by_step = {step: [row[column] for row in own if row["steps"] == step] for step in steps}
    return np.array(steps), np.array([by_step[step] for step in steps])


def draw_curves(
    rows: Sequence[Row],
    arms: Sequence[str],
    column: str,
    label: str,
    path: Path,
    caption: str,
) -> Figure:
    """Mean and 95 % interval over seeds of each arm against agent steps."""
    with panels(path) as (axes,):
        for arm in arms:
            draw_interval(axes, *curve(rows, arm, column), arm)
        axes.set(xlabel="agent steps", ylabel=label)
        axes.legend()
    return Figure(path.name, caption)
