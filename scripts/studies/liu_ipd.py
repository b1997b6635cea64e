"""Liu et al. 2022, LOLA-DiCE in the iterated prisoner's dilemma: what more games, exact updates and reuse are worth."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scripts.figure import panels
from scripts.intervals import draw_interval
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.lola import EXACT, GAMMA, Arm, Lola, Sizes
from scripts.studies.verdicts import is_above

ARMS = {
    "on-policy": Arm("new", "new"),
    "more games": Arm("more", "more"),
    "exact": Arm("exact", "exact"),
    "off-policy": Arm("memory", "memory"),
    "composition exact": Arm("exact", "new"),
    "Hessian exact": Arm("new", "exact"),
    "composition off-policy": Arm("memory", "new"),
    "Hessian off-policy": Arm("new", "memory"),
    "all exact": EXACT,
}
# Against on-policy: arms with both estimates from elsewhere, and with one of the two.
WHOLE = ("more games", "exact", "off-policy")
PARTS = ("composition exact", "Hessian exact", "composition off-policy", "Hessian off-policy")
CLAIMS = {
    "more games": "more games for the look-ahead give",
    "exact": "an exact look-ahead gives",
    "off-policy": "games of earlier policies, reused for the whole look-ahead, give",
    "composition exact": "the update alone exact (composition) gives",
    "Hessian exact": "the Jacobian alone exact (Hessian) gives",
    "composition off-policy": "games reused for the update alone (composition) give",
    "Hessian off-policy": "games reused for the Jacobian alone (Hessian) give",
}
IN_SMOKE = ("on-policy", "exact", "off-policy")
SIZES = {
    "smoke": Sizes(rounds=5, new=4, more=8, memory=8),
    "small": Sizes(rounds=50, new=64, more=512, memory=512),
    "paper": Sizes(),
}
UPDATES = {"smoke": 4, "small": 240, "paper": 500}
EXACT_PATH_UPDATES = {"smoke": 4, "small": 60, "paper": 100}  # it has nearly arrived at cooperation by then
BINS = 10  # of the exact path's updates; on a life's own path bins are as long


class Point(NamedTuple):
    arm: Arm
    sizes: Sizes
    updates: dict[str, int]  # by path: "own" and "exact"
    seeds: int


def _cells(scale: str, seeds: int) -> list[Cell]:
    updates = {"own": UPDATES[scale], "exact": EXACT_PATH_UPDATES[scale]}
    names = IN_SMOKE if scale == "smoke" else tuple(ARMS)
    return [Cell(name, Point(ARMS[name], SIZES[scale], updates, seeds)) for name in names]


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """A row for each path, each seed and each bin of updates: the policies' true mean reward a round, and the
    estimates' correlation with the exact meta-gradient."""
    del out
    point, rows, done = cell.content, [], 0
    players = Lola(point.sizes, point.arm)
    keys = jax.random.split(jax.random.key(0), point.seeds)
    begin = jax.jit(jax.vmap(players.begin))
    steps = max(1, min(point.updates.values()) // BINS)  # one program for both paths
    learn = jax.jit(lambda carry, guided: jax.vmap(lambda c, k: players.learn(c, k, guided, steps))(carry, keys))
    for path, updates in point.updates.items():
        carry = begin(jax.vmap(lambda key: jax.random.fold_in(key, 2**31))(keys))
        for update in range(0, updates, steps):
            tell(f"{cell.name}, {path} path", done / sum(point.updates.values()))
            carry, (reward, correlation) = learn(carry, jnp.bool_(path == "exact"))
            done += steps
            means = zip(*(np.asarray(x, np.float64).mean(axis=1) for x in (reward, correlation)), strict=True)
            rows += [
                {"path": path, "seed": seed, "update": update + steps, "reward": float(r), "correlation": float(c)}
                for seed, (r, c) in enumerate(means)
            ]
    return rows


def _by_seed(rows: Sequence[Row], arm: str, path: str, column: str) -> np.ndarray:
    """[bins, seeds]"""
    own = [row for row in rows if row["cell"] == arm and row["path"] == path]
    at = sorted({row["update"] for row in own})
    return np.array([[row[column] for row in own if row["update"] == update] for update in at])


def _correlation(rows: Sequence[Row], arm: str) -> np.ndarray:
    """[seeds] mean along the path that exact meta-gradients take."""
    return _by_seed(rows, arm, "exact", "correlation").mean(axis=0)


def _final(rows: Sequence[Row], arm: str) -> np.ndarray:
    """[seeds] mean reward over the last tenth of the updates."""
    reward = _by_seed(rows, arm, "own", "reward")
    return reward[-max(1, len(reward) // 10) :].mean(axis=0)


def _present(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    return [name for name in names if any(row["cell"] == name for row in rows)]


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """Each arm against on-policy LOLA-DiCE, then the two parts against each other; intervals hold for all of a
    group by one measure."""
    against_on_policy = [[(name, "on-policy") for name in _present(rows, group)] for group in (WHOLE, PARTS)]
    between_parts = [(PARTS[1], PARTS[0]), (PARTS[3], PARTS[2])]
    groups = [*against_on_policy, [pair for pair in between_parts if set(pair) <= set(_present(rows, PARTS))]]
    return [
        is_above(f"{CLAIMS[high]} {what} than {low}", of(rows, high), of(rows, low), claims=len(group))
        for group in groups
        for high, low in group
        for what, of in (("a higher correlation", _correlation), ("a higher final reward", _final))
    ]


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    for file, path, column, label in (
        ("reward.png", "own", "reward", "mean reward a round"),
        ("correlation.png", "exact", "correlation", "correlation with the exact meta-gradient"),
    ):
        with panels(out / file, 2) as axes:
            for axis, names in zip(axes, (("on-policy", *WHOLE, "all exact"), ("on-policy", *PARTS)), strict=True):
                for name in _present(rows, names):
                    at = sorted({row["update"] for row in rows if row["cell"] == name and row["path"] == path})
                    draw_interval(axis, at, _by_seed(rows, name, path, column), name)
                axis.set(xlabel="updates", ylabel=label)
                axis.legend()
    return [
        Figure("reward.png", "Mean over seeds and players, with its 95 % interval: -1 is cooperation, -2 defection."
               " Left, where both of the look-ahead's estimates come from; right, where one of the two does"),
        Figure("correlation.png", "On the path of policies that exact meta-gradients take, the same for all"),
    ]  # fmt: skip


def setting(scale: str) -> str:
    size = SIZES[scale]
    return (
        f"Two players, five logits each, 0 at the start; γ = {GAMMA}, games of {size.rounds} rounds, one look-ahead of"
        f" rate {size.inner_rate:g}, Adam of rate {size.outer_rate:g}; {UPDATES[scale]} updates of both at once."
        f" On-policy: DiCE from {size.new} new games for the look-ahead (update and Jacobian), and {size.new} behind it"
        f" in every arm. More games: {size.more}. Off-policy: the latest {size.memory} of all games played for"
        f" look-aheads, of which {size.new} are new, each weighted by the whole game's ratio of probabilities so far."
        " Exact: from dynamic programming. Values in the losses, baselines and what a game that was cut off goes on"
        " with, are the true ones (the authors learn a table of immediate rewards). The reward is (1 - γ) times the"
        " true value of the pair, mean over players and the last tenth of the updates; the correlation is Pearson's"
        f" over the five coordinates, mean over the first {EXACT_PATH_UPDATES[scale]} updates of the exact path. Paired"
        " differences are over seeds; by each measure their intervals hold together (Bonferroni) for what is compared"
        " with on-policy as a whole, for the parts, and for the parts with each other."
    )


STUDY = Study(
    title="Liu et al. 2022: LOLA-DiCE in the iterated prisoner's dilemma",
    question=(
        "LOLA's meta-gradient goes through the opponent's sampled update. Does it correlate better with the exact one,"
        " and do players fare better, with more games, with an exact look-ahead, and with games of earlier policies"
        " (Liu et al. 2022: off-policy learning against the compositional bias)? And is it the update (composition) or"
        " its Jacobian (Hessian) that gains?"
    ),
    minutes={"smoke": "20 s", "small": "7 min", "paper": "1 h (projected: 7 s an update of all arms and seeds)"},
    seeds={"smoke": 2, "small": 10, "paper": 10},
    cells=_cells,
    run=run,
    judge=judge,
    draw=draw,
    setting=setting,
)
