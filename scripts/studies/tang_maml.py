"""Tang 2021, Algorithm 1 on tabular tasks: SF and LSF estimates of MAML's gradient, by number of episodes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from configs.experiment import ExperimentConfig
from configs.tree import override
from scripts.figure import panels
from scripts.intervals import Interval, draw_interval
from scripts.lives import Lives
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.tabular import EXACT, Exact, Tabular, tabular
from scripts.studies.tabular_sweep import bias_slope, compare, estimates, slopes, squared_bias, table
from scripts.studies.verdicts import is_above, is_slope

SIZES = {"smoke": (4, 16), "small": (4, 8, 16, 32, 64, 128), "paper": (4, 8, 16, 32, 64, 128, 256, 512)}
SAMPLES = {"smoke": 100, "small": 2_000, "paper": 40_000}
BEHIND = {"smoke": (4, 16), "small": (4, 16, 64, 256), "paper": (4, 16, 64, 256)}  # M, with N = FIXED_SIZE
FIXED_SIZE = 16
TASKS = {"smoke": 2, "small": 10, "paper": 10}
TRAINED = {"smoke": (4,), "small": (4, 16, 64), "paper": (4, 16, 64, 256)}
ITERATIONS = {"smoke": 4, "small": 300, "paper": 2_000}
BATCH = 20  # B: lives whose meta-gradients are averaged
RATE, META_RATE = 3.0, 1.0  # of θ and of θ⁰, in units of the return's gradient
STREAMS_AT_ONCE = 32_768
VARIANCE_CLAIMS = 4  # about slopes of a variance: in N of three arms, and in M
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


class Behind(NamedTuple):
    """LSF's estimates with M episodes behind the update, beside those with exact outer gradients: updates are equal."""

    size: int
    behind: int
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
    cells = [Cell(f"N = {size}", Estimated(arms, size, samples, tasks)) for size in SIZES[scale]]
    cells += [
        Cell(f"N = {FIXED_SIZE}, M = {behind}", Behind(FIXED_SIZE, behind, samples, tasks)) for behind in BEHIND[scale]
    ]
    return cells + [
        Cell(f"{arm}, N = {size}, trained", Trained(arm, size, ITERATIONS[scale], seeds))
        for arm in TRAINED_ARMS[scale]
        for size in TRAINED[scale]
    ]


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    del out
    of_kind = {Estimated: _estimate, Behind: _look_behind, Trained: _train}
    tell(f"{cell.name}: compiling", 0.0)
    return of_kind[type(cell.content)](cell.name, cell.content, tell)


def _estimator(arm: str, size: int, behind: int | None = None) -> Tabular:
    config = override(problem(size), ARMS[arm])
    return Tabular(config, critic_noise=None, endless=False, independent=False, behind=behind)


def _estimate(name: str, point: Estimated, tell: Callable[[str, float], None]) -> list[Row]:
    """A row for each arm and MDP: against the exact gradient, and, on equal samples, what is unbiased for J_N."""
    chunk = max(1, min(point.samples, STREAMS_AT_ONCE // point.size))
    found = {}
    for index, arm in enumerate(point.arms):
        tell(f"{name}, {arm}", index / len(point.arms))
        estimator = _estimator(arm, point.size)
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


def _look_behind(name: str, point: Behind, tell: Callable[[str, float], None]) -> list[Row]:
    """A row for each MDP; added: what M adds to the variance, the mean squared distance from the same estimates with
    exact outer gradients."""
    tell(name, 0.0)
    estimator = _estimator(LSF, point.size, point.behind)
    chunk = max(1, min(point.samples, STREAMS_AT_ONCE // max(point.size, point.behind)))
    exact, found = (
        estimates(estimator, point.tasks, point.samples, Exact(outer=outer), RATE, chunk)[0] for outer in (True, False)
    )
    return [
        {"kind": "behind", "arm": LSF, "size": point.size, "behind": point.behind, "task": task}
        | {"variance": float(found[task].var(axis=0, ddof=1).sum())}
        | {"added": float(np.square(found[task] - exact[task]).sum(axis=-1).mean())}
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


def _behind(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["kind"] == "behind"]


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
    slope = slopes(_behind(rows), "behind", "added", VARIANCE_CLAIMS)
    claim = f"what M episodes behind the update add to LSF's variance (N = {FIXED_SIZE}) goes as M^-1"
    verdicts.append(is_slope(claim, slope, -1.0, f"slope {slope} of its log against log M"))
    slope, measured = _growth(rows, BASED)
    verdicts.append(
        Verdict(
            "our own: with the value of θ⁰ as its baseline, SF's variance no longer grows as N",
            measured,
            "agree" if slope.high < 0.5 else "disagree" if slope.low > 0.5 else "undecided",
        )
    )
    verdicts += [
        _falls(f"{what} at least as 1/√N", bias_slope(_estimated(rows, arm), "size", of, claims=3))
        for what, arm, of in (
            ("the bias of LSF against J_∞ falls", LSF, "squared_bias"),
            ("J_N and J_∞ come together", BASED, "squared_bias"),
            ("the bias of LSF against J_N falls", LSF, "squared_gap"),
        )
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
    slope, last = (
        slopes(of, "size", "variance", VARIANCE_CLAIMS) for of in (own, [row for row in own if row["size"] in largest])
    )
    return slope, f"slope {slope} of log variance against log N; {last} between the two largest N"


def _falls(claim: str, slope: Interval | None) -> Verdict:
    if slope is None:
        return Verdict(claim, "too few samples to see it", "undecided")
    verdict = "agree" if slope.high <= -0.5 else "disagree" if slope.low > -0.5 else "undecided"
    return Verdict(claim, f"slope {slope} of its log against log N", verdict)


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    sizes, colours = _trained_sizes(rows), {arm: f"C{index}" for index, arm in enumerate(ARMS)}
    with panels(out / "tang.png", 3 + len(sizes), 2) as axes:
        for arm in (arm for arm in ARMS if _estimated(rows, arm)):
            at, variance = table(_estimated(rows, arm), "size", "variance")
            axes[0].plot(at, variance.mean(axis=0), "o-", color=colours[arm], label=arm)
            bias = np.sqrt(np.maximum(table(_estimated(rows, arm), "size", "squared_bias")[1].mean(axis=0), 0))
            if arm != SF:
                label = f"J_N, by {BASED}" if arm == BASED else arm
                axes[1].plot(at, np.where(bias > 0, bias, np.nan), "o-", color=colours[arm], label=label)
        for label, column, style in (("all", "variance", "o-"), ("what M adds", "added", "s--")):
            at, found = table(_behind(rows), "behind", column)
            axes[2].plot(at, found.mean(axis=0), style, color=colours[LSF], label=label)
        for axis, episodes, label in (
            (axes[0], "N (M infinite)", "variance"),
            (axes[1], "N (M infinite)", "distance from the gradient of J_∞"),
            (axes[2], f"M behind the update (N = {FIXED_SIZE})", "variance of LSF"),
        ):
            axis.set(xscale="log", yscale="log", xlabel=f"episodes {episodes}", ylabel=label)
            low, high = axis.get_ylim()
            axis.set_ylim(low, high * (high / low) ** 0.4)  # room for the legend
            axis.legend(loc="upper left", ncols=2)
        for axis, size in zip(axes[3:], sizes, strict=True):
            for arm in _trained_arms(rows):
                parts = _trained(rows, arm, size).T
                draw_interval(axis, range(1, len(parts) + 1), parts, arm, color=colours[arm])
            axis.set(xlabel="tenths of the iterations", ylabel="reward a step", title=f"N = M = {size:.0f}")
            low, high = axis.get_ylim()
            axis.set_ylim(low, high + 0.3 * (high - low))
            axis.legend(loc="upper left", ncols=2)
    caption = (
        "Means over MDPs; points whose squared distance, less what noise adds to it, is not positive are left out: J_N"
        " cannot be told from J_∞ there. Titled: Algorithm 1 itself, mean and 95 % interval over seeds"
    )
    return [Figure("tang.png", caption)]


def setting(scale: str) -> str:
    return (
        f"{TASKS[scale]} random MDPs of 5 states and 3 actions, episodes of 5 steps, γ = 0.8; one update of rate"
        f" {RATE:g} from N episodes, no critic; {SAMPLES[scale]:,} estimates at the uniform policy for each MDP, with"
        " exact outer gradients (M infinite), all arms from the same samples. An episode's whole return meets each of"
        " its scores, in the update too (DiCE: the rewards behind an action alone). SF: λ = 1. What M adds to LSF's"
        f" variance: with M = {', '.join(map(str, BEHIND[scale]))} episodes behind the update and N = {FIXED_SIZE}, the"
        " mean squared distance from the estimates with exact outer gradients. The term in B is that of a mean of B"
        " independent estimates, which needs no measurement. Slopes and intervals are over MDPs, and hold for all"
        f" claims of a kind together (Bonferroni). Algorithm 1: the first MDP, B = {BATCH},"
        f" {ITERATIONS[scale]} iterations of SGD with rate {META_RATE:g}; intervals over seeds."
    )


STUDY = Study(
    title="Tang 2021: SF and LSF for MAML on random MDPs",
    question=(
        "Propositions 6.2 and 6.3 of the paper: the variance of the unbiased score function estimate grows as N, that"
        " of its linearisation is O(1/M) + O(1/N) + O(1/B), with M episodes behind the update and B tasks; LSF's bias,"
        " and the distance of J_N from J_∞, are of order 1/√N at most."
        " Algorithm 1 is MAML with LSF."
    ),
    minutes={"smoke": "40 s", "small": "9 min", "paper": "10 h (projected from `small`: 0.6 ms an estimate)"},
    seeds={"smoke": 2, "small": 20, "paper": 10},
    cells=_cells,
    run=run,
    judge=judge,
    draw=draw,
    setting=setting,
)
