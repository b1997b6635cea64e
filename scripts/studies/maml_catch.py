"""MAML and E-MAML on a family of Catch tasks: does a start that is learned learn faster, with every surrogate?"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from configs.experiment import ExperimentConfig
from configs.presets import preset
from configs.tree import override
from scripts.figure import panels
from scripts.intervals import draw_interval
from scripts.lives import Lives
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.verdicts import is_above

STILL, PLAIN = "θ⁰ held still", "plain"
ARMS: dict[str, dict[str, Any]] = {
    STILL: {"meta_optimizer.learning_rate": 0.0},
    PLAIN: {},
    "lvc": {"inner.surrogate": "lvc"},
    "dice": {"inner.surrogate": "dice"},
    "lsf": {"inner.surrogate": "lsf"},
    "loaded_dice": {"inner.surrogate": "loaded_dice", "inner.surrogate_decay": 0.8},
    "off_policy": {"inner.surrogate": "off_policy"},
    "off_policy_dice": {"inner.surrogate": "off_policy_dice"},
    "E-MAML": {"correction": 1.0, "meta_gradient.baseline": "running_mean"},
    "E-MAML, 1/N": {
        "correction": 1.0,
        "meta_gradient.baseline": "running_mean",
        "meta_gradient.score_reduction": "mean",
    },
}
TRIED = {"smoke": (STILL, PLAIN), "small": tuple(ARMS), "paper": tuple(ARMS)}
LIVES = {"smoke": 4, "small": 20, "paper": 40}
ITERATIONS = {"smoke": 10, "small": 300, "paper": 3_000}
PARTS = 10  # of a training, in the table
STREAMS, UNROLL, RATE, META_RATE = 20, 20, 1.0, 3e-3


class Trained(NamedTuple):
    arm: str
    scale: str
    seeds: int


def experiment(arm: str, scale: str) -> ExperimentConfig:
    """Lives of two updates, each on a Catch whose actions mean what the task says."""
    return override(
        preset("smoke"),
        {
            "agent": "maml",
            "lag": "0",
            "window": 2,
            "correction": 0.0,
            "meta_gradient.objective": "next",
            "meta_gradient.diagnostics": 0,
            "streams": 4 if scale == "smoke" else STREAMS,
            "unroll": UNROLL,
            "network.hidden": (64,),
            "inner.gamma": 0.9,
            "inner.reduction": "mean",
            "inner.entropy_weight": 0.0,
            "inner.reward_clip": 0.0,
            "outer.gamma": 0.9,
            "outer.kl_weight": 0.0,
            "outer.entropy_weight": 0.01,
            "optimizer.name": "sgd",
            "optimizer.learning_rate": RATE,
            "optimizer.max_grad_norm": 0.0,
            "meta_optimizer.learning_rate": META_RATE,
            "meta_optimizer.max_grad_norm": 1.0,
        }
        | ARMS[arm],
    )


def _cells(scale: str, seeds: int) -> list[Cell]:
    return [Cell(arm, Trained(arm, scale, seeds)) for arm in TRIED[scale]]


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """A row for each seed and tenth of the training: reward a step behind the first update and behind the second."""
    del out
    arm, scale, seeds = cell.content
    tell(f"{cell.name}: compiling", 0.0)
    lives, count, rows = Lives(experiment(arm, scale), shared=True, own_tasks=True), LIVES[scale], []
    for seed in range(seeds):
        state = lives.start(range(count * seed, count * (seed + 1)))
        for part in range(PARTS):
            tell(cell.name, (seed + part / PARTS) / seeds)
            state, records = lives.run(state, ITERATIONS[scale] // PARTS)
            once, twice = np.asarray(records["reward"], np.float64).mean(axis=(0, 1))
            rows.append({"seed": seed, "part": part + 1, "once": once, "twice": twice})
    return rows


def _course(rows: Sequence[Row], arm: str, column: str) -> np.ndarray:
    """[seeds, parts]"""
    own = [row for row in rows if row["cell"] == arm]
    return np.array([[row[column] for row in own if row["seed"] == s] for s in sorted({row["seed"] for row in own})])


def _arms(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["cell"] for row in rows))


def judge(rows: Sequence[Row]) -> list[Verdict]:
    learned = [arm for arm in _arms(rows) if arm != STILL]
    ends = {arm: _course(rows, arm, "twice")[:, -1] for arm in _arms(rows)}
    found = [
        is_above(f"{arm}: after two updates a learned start earns more than a frozen one", ends[arm], ends[STILL],
                 " reward a step", claims=len(learned))
        for arm in learned
    ]  # fmt: skip
    others = [arm for arm in learned if arm != PLAIN]
    return found + [
        is_above(f"plain ends with more than {arm}", ends[PLAIN], ends[arm], " reward a step", claims=len(others))
        for arm in others
    ]


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    with panels(out / "training.png") as (axes,):
        for arm in _arms(rows):
            course = _course(rows, arm, "twice").T
            draw_interval(axes, range(1, len(course) + 1), course, arm)
        axes.set(xlabel="tenths of the training", ylabel="reward a step behind two updates")
        axes.legend()
    return [Figure("training.png", "Reward a step behind two updates; mean and 95 % interval over seeds")]


def setting(scale: str) -> str:
    streams = experiment(PLAIN, scale).streams
    return (
        "Catch (perfect play earns 0.1 a step, chance -0.067); a task says which action moves where."
        f" {LIVES[scale]} lives side by side, each of two updates with {streams} streams of {UNROLL} steps (SGD, rate"
        f" {RATE:g}) on a task of its own, and anew after each step of η = θ⁰: {ITERATIONS[scale]:,} steps of Adam"
        f" ({META_RATE:g}, clipped at 1). mlp of 64, γ = γ' = 0.9, outer loss on the batch behind the last update."
        " E-MAML: λ = 1, and a running mean as its baseline; 1/N: its score a mean over a batch's"
        f" {streams * UNROLL} actions, as its authors'. A seed is a start and its tasks. Intervals hold for all"
        " claims of a kind together (Bonferroni)."
    )


STUDY = Study(
    title="MAML and E-MAML on a family of Catch tasks",
    question=(
        "Finn et al. 2017 learn the parameters from which a life learns fastest; Stadie et al. 2018 add that the start"
        " also decides what is sampled (E-MAML). Here on Catch with shuffled actions, with every surrogate of the inner"
        " loss: is a learned start better than an untrained one, and do the surrogates differ?"
    ),
    minutes={
        "smoke": "20 s",
        "small": "11 min",
        "paper": "8 h (projected from `small`: 50 ms an update of η by 20 lives)",
    },
    seeds={"smoke": 2, "small": 4, "paper": 10},
    cells=_cells,
    run=run,
    judge=judge,
    draw=draw,
    setting=setting,
)
