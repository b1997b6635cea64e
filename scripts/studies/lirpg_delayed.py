"""Does a learned intrinsic reward help where the environment's own comes late, and where it is dense?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from configs.experiment import ExperimentConfig
from configs.presets import preset
from configs.tree import override
from scripts.studies.arms import Arm, by_seed, draw_curves, run_arm
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.verdicts import is_above

STEPS = {"smoke": 3_200, "small": 320_000, "paper": 3_200_000}
STREAMS, UNROLL = 16, 20


class World(NamedTuple):
    title: str
    settings: dict[str, Any]
    own_tasks: bool  # each seed's life is on a task of its own


WORLDS = {
    "catch": World("Catch", {"game": "catch"}, False),
    "delayed": World(
        "Catch, the rewards of two balls after the second", {"game": "catch", "environment.catch_runs": 2}, False
    ),
    "tabular": World("random MDPs", {"game": "tabular_mdp"}, True),
}
WEIGHTS = {"smoke": (0.1,), "small": (0.01, 0.1, 1.0), "paper": (0.01, 0.03, 0.1, 0.3, 1.0)}
PLAIN = "no intrinsic reward"
ALONE = "LIRPG, r_in alone, β = 1"  # as the authors' code has it where rewards are delayed


def _learned(weight: float) -> str:
    return f"LIRPG, β = {weight:g}"


def experiment(world: str, scale: str, weight: float, reward_weight: float = 1.0) -> ExperimentConfig:
    """`atari_lirpg`'s two losses on a small network. At weight 0 the learned reward is nothing, and all
    else the same: a second critic shares the torso and the clipped gradient. At reward weight 0 the game's reward is
    nothing to the inner loss's policy and value, though that critic and the torso learn from it."""
    base = override(
        preset("atari_lirpg"),
        {
            "frames": STEPS[scale],
            "streams": STREAMS,
            "unroll": UNROLL,
            "lag": "0",
            "network.torso": "mlp",
            "network.hidden": (64, 64),
            "inner.reward_clip": 0.0,
            "optimizer.name": "adam",
            "optimizer.learning_rate": 1e-3,
            "optimizer.anneal": False,
            "meta_optimizer.name": "adam",
            "meta_optimizer.learning_rate": 1e-3,
            "meta_optimizer.anneal": False,
            "meta_optimizer.max_grad_norm": 0.0,
        }
        | WORLDS[world].settings,
    )
    return override(base, {"intrinsic.weight": weight, "intrinsic.reward_weight": reward_weight})


def _cells(scale: str, seeds: int) -> list[Cell]:
    worlds = ("delayed",) if scale == "smoke" else WORLDS
    arms = {PLAIN: (0.0, 1.0)} | {_learned(weight): (weight, 1.0) for weight in WEIGHTS[scale]}
    late = {ALONE: (1.0, 0.0)}
    return [
        Cell(f"{world}: {arm}", Arm(experiment(world, scale, *weights), seeds, WORLDS[world].own_tasks))
        for world in worlds
        for arm, weights in (arms | late if world == "delayed" else arms).items()
    ]


def _lived(rows: Sequence[Row]) -> dict[str, list[str]]:
    """World -> the arms that the table has of it."""
    names = list(dict.fromkeys(row["cell"] for row in rows))
    lived = {world: [name for name in names if name.startswith(f"{world}: ")] for world in WORLDS}
    return {world: arms for world, arms in lived.items() if arms}


def judge(rows: Sequence[Row]) -> list[Verdict]:
    lived = _lived(rows)
    claims = sum(len(arms) - 1 for arms in lived.values())
    return [
        is_above(
            f"{WORLDS[world].title}: {arm.removeprefix(f'{world}: ')} earns more over the life than {PLAIN}",
            by_seed(rows, arm),
            by_seed(rows, f"{world}: {PLAIN}"),
            " reward a step",
            claims,
        )
        for world, arms in lived.items()
        for arm in arms
        if not arm.endswith(PLAIN)
    ]


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    return [
        draw_curves(
            rows,
            arms,
            "reward",
            "reward a step",
            out / f"{world}.png",
            f"{WORLDS[world].title}: reward a step, mean and 95 % interval over seeds",
        )
        for world, arms in _lived(rows).items()
    ]


def setting(scale: str) -> str:
    return (
        "`atari_lirpg`'s inner and outer loss (A2C, same batch, a critic of its own outside, K = 1); mlp 64-64, a"
        f" network of the same size for r_in; Adam 1e-3 for both; {STREAMS} streams, unroll {UNROLL}, {STEPS[scale]:,}"
        " agent steps in one life, on-policy, γ 0.99. Without an intrinsic reward: the same with β = 0. With r_in"
        " alone: the inner loss leaves out the game's reward (weight 0); the outer loss's critic, on the same torso,"
        " does not. On random MDPs every seed has an MDP of its own, its rewards are dense. Intervals hold for all"
        " claims together (Bonferroni)."
    )


STUDY = Study(
    title="A learned intrinsic reward, early and late rewards",
    question=(
        "Zheng, Oh and Singh 2018 report that an intrinsic reward, learned for the extrinsic one's sake, helps policy"
        " gradient agents, on Atari and on tasks whose rewards are delayed. Here: one life each on Catch, on Catch"
        " whose rewards come late, and on random MDPs."
    ),
    minutes={
        "smoke": "20 s",
        "small": "5 min",
        "paper": "8 h on one core (projected from `small`: 6 ms a life's update of η)",
    },
    seeds={"smoke": 2, "small": 10, "paper": 30},
    cells=_cells,
    run=run_arm,
    judge=judge,
    draw=draw,
    setting=setting,
)
