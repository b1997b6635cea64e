"""A whole update rule, learned on many small worlds: is it better than its untrained start where it has not been?"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from agents.config import InnerLossConfig, NetworkConfig, OuterLossConfig
from agents.rules import save_rule
from configs.experiment import ExperimentConfig
from configs.presets import preset
from configs.tree import override
from learner.config import InnerOptimizerConfig, MetaOptimizerConfig
from scripts.lives import Lives
from scripts.studies.arms import by_seed, draw_curves, live
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.statistics import is_above

RULE, UNTRAINED = "rule.npz", "rule_at_birth.npz"
LIVES = {"smoke": 4, "small": 64, "paper": 512}
META_UPDATES = {"smoke": 4, "small": 1_200, "paper": 20_000}
LIFETIME = 40  # windows
UPDATES = {"smoke": 20, "small": 400, "paper": 400}  # of the lives that test the rule
WORLDS = {"grid 5": {"environment.grid_size": 5}, "grid 7": {"environment.grid_size": 7}, "catch": {"game": "catch"}}
RATES = (3.0, 10.0, 30.0)  # of A2C; the best of them counts
UNSEEN = 1_000_000  # seeds of tests start here: tasks that training has not seen


def experiment(agent: str, scale: str, rate: float = 10.0, **settings) -> ExperimentConfig:
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
        outer=OuterLossConfig(gamma=0.95, value_weight=0.5, entropy_weight=0.01, kl_weight=0.0),
        optimizer=InnerOptimizerConfig(name="sgd", learning_rate=rate, anneal=False, max_grad_norm=0.0),
        meta_optimizer=MetaOptimizerConfig(learning_rate=1e-3, eps=1e-8, max_grad_norm=1.0),
    )
    return override(base, settings)


def _cells(scale: str, seeds: int) -> list[Cell]:
    cells, few = [Cell("training", scale)], scale == "smoke"
    for world in list(WORLDS)[: 1 if few else None]:
        arms = ["untrained rule", "learned rule", *(f"A2C, rate {rate:g}" for rate in RATES[: 1 if few else None])]
        cells += [Cell(f"{world}: {arm}", (scale, world, arm, seeds)) for arm in arms]
    return cells


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """Trains the rule and keeps it in `out`, or lets one arm live on unseen tasks."""
    tell(f"{cell.name}: compiling", 0.0)
    if cell.name == "training":
        scale = cell.content
        lives = Lives(experiment("lpg", scale), shared=True, own_tasks=True, lifetime=LIFETIME)
        state, rows = live(lives, range(LIVES[scale]), META_UPDATES[scale], lambda f: tell(cell.name, f))
        save_rule(out / RULE, jax.tree.map(lambda x: x[0], state.learner.meta.params))
        born = lives.start(range(LIVES[scale]))
        save_rule(out / UNTRAINED, jax.tree.map(lambda x: x[0], born.learner.meta.params))
        return _means(rows)
    scale, world, arm, seeds = cell.content
    if arm.endswith("rule"):
        config = experiment("lpg", scale, **{"lpg.rule": str(out / (RULE if arm == "learned rule" else UNTRAINED))})
    else:
        config = experiment("impala", scale, rate=float(arm.split()[-1]))
    lives = Lives(override(config, WORLDS[world]), own_tasks=WORLDS[world].get("game") is None)
    windows = UPDATES[scale] // lives.learner.span
    return live(lives, range(UNSEEN, UNSEEN + seeds), windows, lambda f: tell(cell.name, f))[1]


def _means(rows: Sequence[Row]) -> list[Row]:
    """Over all lives: of training only the common course is kept."""
    steps = sorted({row["steps"] for row in rows})
    of_step = {step: [row for row in rows if row["steps"] == step] for step in steps}
    return [
        {"seed": 0, "steps": step, "reward": sum(row["reward"] for row in own) / len(own)}
        for step, own in of_step.items()
    ]


def judge(rows: Sequence[Row]) -> list[Verdict]:
    verdicts, names = [], list(dict.fromkeys(row["cell"] for row in rows))
    for world in (world for world in WORLDS if f"{world}: learned rule" in names):
        learned, untrained = (by_seed(rows, f"{world}: {arm} rule") for arm in ("learned", "untrained"))
        a2c = max((by_seed(rows, n) for n in names if n.startswith(f"{world}: A2C")), key=lambda x: x.mean())
        seen = "unseen tasks of the family" if world == "grid 5" else "a world it was not trained in"
        claim = f"{world} ({seen}): the learned rule earns more over a life than"
        verdicts.append(is_above(f"{claim} its untrained start", learned, untrained, " reward a step"))
        verdicts.append(is_above(f"{claim} A2C at the best of its rates", learned, a2c, " reward a step"))
    return verdicts


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    caption = "Training: reward a step, mean over the lives, which begin anew every 200 updates"
    figures = [draw_curves(rows, ["training"], "reward", "reward a step", out / "training.png", caption)]
    for world in dict.fromkeys(row["cell"].split(":")[0] for row in rows if ":" in row["cell"]):
        arms = [cell for cell in dict.fromkeys(row["cell"] for row in rows) if cell.startswith(f"{world}:")]
        path, caption = out / f"{world.replace(' ', '_')}.png", f"{world}: reward a step, mean and 95 % over tasks"
        figures.append(draw_curves(rows, arms, "reward", "reward a step", path, caption))
    return figures


def setting(scale: str) -> str:
    lpg = experiment("lpg", scale).lpg
    return (
        f"The rule: backward LSTM of {lpg.hidden}, {lpg.predictions} predictions. Trained by {META_UPDATES[scale]:,}"
        f" steps of Adam (1e-3) on {LIVES[scale]} lives side by side, each on a 5x5 grid of its own, K = 5, {LIFETIME}"
        f" windows a life. Tested on unseen tasks, one for each seed, over {UPDATES[scale]} updates: tabular agents, 16"
        " streams, rollouts of 20, SGD (10 for both rules; A2C at the best of 3, 10 and 30). One rule was trained:"
        " the intervals are over tasks, not over trainings."
    )


STUDY = Study(
    title="LPG: an update rule learned on small grid worlds",
    question=(
        "Oh et al. 2020 learn the whole update rule on toy worlds and find that it carries over to others. Here: does a"
        " rule learned on random 5x5 grids beat its untrained start, and A2C, on tasks and worlds it has not seen?"
    ),
    minutes={"smoke": "1 min", "small": "21 min on one core", "paper": "not measured"},
    seeds={"smoke": 2, "small": 20, "paper": 50},
    cells=_cells,
    run=run,
    judge=judge,
    draw=draw,
    setting=setting,
)
