"""Tang 2021, Algorithm 1 on tabular tasks: SF and LSF estimates of MAML's gradient, by number of episodes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from configs.experiment import ExperimentConfig
from configs.tree import override
from scripts.figure import panels
from scripts.lives import Lives
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.statistics import Interval, draw_interval, is_above, is_slope
from scripts.studies.tabular import EXACT, Exact, Tabular, tabular
from scripts.studies.tabular_sweep import bias_slope, compare, estimates, slopes, squared_bias, table

SIZES = {"smoke": (4, 16), "small": (4, 8, 16, 32, 64, 128), "paper": (4, 8, 16, 32, 64, 128, 256, 512)}
SAMPLES = {"smoke": 100, "small": 2_000, "paper": 40_000}
TASKS = {"smoke": 2, "small": 10, "paper": 10}
TRAINED = {"smoke": (4,), "small": (4, 16, 64), "paper": (4, 16, 64, 256)}
ITERATIONS = {"smoke": 4, "small": 300, "paper": 2_000}
BATCH = 20  # B: lives whose meta-gradients are averaged
RATE, META_RATE = 3.0, 1.0  # of θ and of θ⁰, in units of the return's gradient
STREAMS_AT_ONCE = 32_768
SF, BASED, LSF, DICE, PLAIN = "SF", "SF with a baseline", "LSF", "DiCE", "plain"
REINFORCE = {"inner.surrogate": "lsf", "inner.surrogate_decay": 0.0}  # Tang's update, without products of scores
ARMS = {
    SF: {"correction": 1.0} | REINFORCE,
    BASED: {"correction": 1.0, "meta_gradient.baseline": "running_mean"} | REINFORCE,
    LSF: {"inner.surrogate": "lsf"},
    DICE: {"inner.surrogate": "dice"},
    PLAIN: REINFORCE,
}
ESTIMATED_ARMS = {"smoke": (SF, BASED, LSF, DICE), "small": tuple(ARMS), "paper": tuple(ARMS)}
TRAINED_ARMS = {"smoke": (LSF,), "small": (SF, BASED, LSF), "paper": (SF, BASED, LSF)}  # of Algorithm 1
WORLD = {"environment.mdp_states": 5, "environment.mdp_actions": 3, "environment.mdp_horizon": 5, "unroll": 6}


class Estimated(NamedTuple):
    """Estimates of one meta-gradient with exact outer gradients (M is infinite), by every arm from the same samples."""

    arms: tuple[str, ...]
    size: int
    samples: int
    tasks: int


class Trained(NamedTuple):
    """Algorithm 1: θ⁰ follows an arm's estimates, with M = N."""

    arm: str
    size: int
    iterations: int
    seeds: int


def problem(size: int) -> ExperimentConfig:
    """MAML on small random MDPs, with `size` episodes before the update and as many behind it; no critic."""
    return override(tabular("maml"), WORLD | {"streams": size})


def _cells(scale: str, seeds: int) -> list[Cell]:
    arms, samples, tasks = ESTIMATED_ARMS[scale], SAMPLES[scale], TASKS[scale]
    return [Cell(f"N = {size}", Estimated(arms, size, samples, tasks)) for size in SIZES[scale]] + [
        Cell(f"{arm}, N = {size}, trained", Trained(arm, size, ITERATIONS[scale], seeds))
        for arm in TRAINED_ARMS[scale]
        for size in TRAINED[scale]
    ]


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    del out
    tell(f"{cell.name}: compiling", 0.0)
    return (_estimate if isinstance(cell.content, Estimated) else _train)(cell.name, cell.content, tell)


def _estimate(name: str, point: Estimated, tell: Callable[[str, float], None]) -> list[Row]:
    """A row for each arm and MDP: against the exact gradient, and, on equal samples, what is unbiased for J_N."""
    chunk = max(1, min(point.samples, STREAMS_AT_ONCE // point.size))
    found = {}
    for index, arm in enumerate(point.arms):
        tell(f"{name}, {arm}", index / len(point.arms))
        estimator = Tabular(
            override(problem(point.size), ARMS[arm]), critic_noise=None, endless=False, independent=False
        )
        found[arm], _ = estimates(estimator, point.tasks, point.samples, Exact(outer=True), RATE, chunk)
        if arm == LSF:  # where all is exact no surrogate matters, but a correction has no exact form
            exact, _ = estimates(estimator, point.tasks, 1, EXACT, RATE, chunk)
    return [
        {"kind": "estimated", "arm": arm, "size": point.size, "task": task}
        | compare(values[task], exact[task, 0])
        | {"squared_gap": squared_bias(values[task] - found[BASED][task])}
        for arm, values in found.items()
        for task in range(point.tasks)
    ]


def _train(name: str, point: Trained, tell: Callable[[str, float], None]) -> list[Row]:
    """A row for each seed and tenth of the iterations: mean reward a step behind the update."""
    steps = {
        "meta_optimizer.learning_rate": META_RATE * WORLD["unroll"],
        "optimizer.learning_rate": RATE * WORLD["unroll"],
    }
    lives = Lives(override(problem(point.size), ARMS[point.arm] | steps), shared=True)
    rows = []
    for seed in range(point.seeds):
        tell(name, seed / point.seeds)
        state = lives.start(range(BATCH * seed, BATCH * (seed + 1)))
        _, records = lives.run(state, point.iterations)
        reward = np.asarray(records["reward"], np.float64)[..., -1].mean(axis=0)  # [iterations]
        rows += [
            {"kind": "trained", "arm": point.arm, "size": point.size, "seed": seed, "part": part, "reward": own.mean()}
            for part, own in enumerate(np.array_split(reward, min(10, point.iterations)))
        ]
    return rows


def _estimated(rows: Sequence[Row], arm: str) -> list[Row]:
    return [row for row in rows if row["kind"] == "estimated" and row["arm"] == arm]


def _trained_sizes(rows: Sequence[Row]) -> list[float]:
    return sorted({row["size"] for row in rows if row["kind"] == "trained"})


def _trained_arms(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["arm"] for row in rows if row["kind"] == "trained"))


def _trained(rows: Sequence[Row], arm: str, size: float) -> np.ndarray:
    """[seeds, parts]"""
    own = [row for row in rows if row["kind"] == "trained" and row["arm"] == arm and row["size"] == size]
    seeds = sorted({row["seed"] for row in own})
    return np.array([[row["reward"] for row in own if row["seed"] == seed] for seed in seeds])


def judge(rows: Sequence[Row]) -> list[Verdict]:
    verdicts = []
    for arm, expected in ((SF, 1.0), (LSF, -1.0)):
        slope, measured = _growth(rows, arm)
        verdicts.append(is_slope(f"the variance of {arm} goes as N^{expected:+.0f}", slope, expected, measured))
    slope, measured = _growth(rows, BASED)
    verdicts.append(
        Verdict(
            "our own: with the value of θ⁰ as its baseline, SF's variance no longer grows as N",
            measured,
            "agree" if slope.high < 0.5 else "disagree" if slope.low > 0.5 else "undecided",
        )
    )
    verdicts += [
        _falls("the bias of LSF against J_∞ falls at least as 1/√N", bias_slope(_estimated(rows, LSF), "size")),
        _falls("J_N and J_∞ come together at least as 1/√N", bias_slope(_estimated(rows, BASED), "size")),
        _falls(
            "the bias of LSF against J_N falls at least as 1/√N",
            bias_slope(_estimated(rows, LSF), "size", "squared_gap"),
        ),
    ]
    by_size = {arm: table(_estimated(rows, arm), "size", "variance") for arm in (LSF, DICE)}
    verdicts += [
        is_above(
            f"our own: with N = {by_size[LSF][0][at]:.0f} LSF varies more than DiCE, which leaves out how rewards meet"
            " later scores",
            *(np.log10(variance[:, at]) for _, variance in by_size.values()),
            ", log10 of the variance",
            claims=2,
        )
        for at in (0, -1)
    ]
    sizes, others = _trained_sizes(rows), [arm for arm in _trained_arms(rows) if arm != LSF]
    return verdicts + [
        is_above(
            f"Algorithm 1 with N = {size:.0f}: LSF ends with more reward than {other}",
            _trained(rows, LSF, size)[:, -1],
            _trained(rows, other, size)[:, -1],
            " a step",
            claims=len(others) * len(sizes),
        )
        for size in sizes
        for other in others
    ]


def _growth(rows: Sequence[Row], arm: str) -> tuple[Interval, str]:
    """Slope of an arm's log variance against log N, and its words: theory is for large N, so those apart, too."""
    own = _estimated(rows, arm)
    largest = sorted({row["size"] for row in own})[-2:]
    slope, last = slopes(own, "size", "variance"), slopes([r for r in own if r["size"] in largest], "size", "variance")
    return slope, f"slope {slope} of log variance against log N; {last} between the two largest N"


def _falls(claim: str, slope: Interval | None) -> Verdict:
    if slope is None:
        return Verdict(claim, "too few samples to see it", "undecided")
    verdict = "agree" if slope.high <= -0.5 else "disagree" if slope.low > -0.5 else "undecided"
    return Verdict(claim, f"slope {slope} of its log against log N", verdict)


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    sizes = _trained_sizes(rows)
    with panels(out / "tang.png", 2 + len(sizes), 1) as axes:
        for arm in (arm for arm in ARMS if _estimated(rows, arm)):
            at, variance = table(_estimated(rows, arm), "size", "variance")
            axes[0].plot(at, variance.mean(axis=0), "o-", label=arm)
            bias = np.sqrt(np.maximum(table(_estimated(rows, arm), "size", "squared_bias")[1].mean(axis=0), 0))
            if arm != SF:
                axes[1].plot(at, np.where(bias > 0, bias, np.nan), "o-", label="J_N" if arm == BASED else arm)
        for axis, label in ((axes[0], "variance"), (axes[1], "distance from the gradient of J_∞")):
            axis.set(xscale="log", yscale="log", xlabel="episodes N", ylabel=label)
            axis.legend()
        for axis, size in zip(axes[2:], sizes, strict=True):
            for arm in _trained_arms(rows):
                parts = _trained(rows, arm, size).T
                draw_interval(axis, range(1, len(parts) + 1), parts, arm)
            axis.set(xlabel="tenths of the iterations", ylabel="reward a step", title=f"N = M = {size:.0f}")
            axis.legend()
    return [Figure("tang.png", "Means over MDPs; on the right Algorithm 1 itself, mean and 95 % interval over seeds")]


def setting(scale: str) -> str:
    return (
        f"{TASKS[scale]} random MDPs of 5 states and 3 actions, episodes of 5 steps, γ = 0.8; one update of rate"
        f" {RATE:g} from N episodes, no critic; {SAMPLES[scale]:,} estimates at the uniform policy for each MDP, with"
        " exact outer gradients (M infinite), all arms from the same samples. An episode's whole return meets each of"
        " its scores, in the update too (DiCE: the rewards behind an action alone). SF: λ = 1. Slopes and intervals are"
        f" over MDPs. Algorithm 1: the first MDP, B = {BATCH}, {ITERATIONS[scale]} iterations of SGD with rate"
        f" {META_RATE:g}; intervals over seeds."
    )


STUDY = Study(
    title="Tang 2021: SF and LSF for MAML on random MDPs",
    question=(
        "Propositions 6.2 and 6.3 of the paper: the variance of the unbiased score function estimate grows as N, that"
        " of its linearisation falls as 1/N; LSF's bias, and the distance of J_N from J_∞, are of order 1/√N at most."
        " Algorithm 1 is MAML with LSF."
    ),
    minutes={"smoke": "30 s", "small": "8 min", "paper": "9 h (projected from `small`: 0.6 ms an estimate)"},
    seeds={"smoke": 2, "small": 20, "paper": 10},
    cells=_cells,
    run=run,
    judge=judge,
    draw=draw,
    setting=setting,
)
