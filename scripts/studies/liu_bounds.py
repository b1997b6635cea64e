"""Liu et al. 2022, the bounds: how compositional and Hessian bias grow with K, the learning rate and |τ|, measured."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from configs.tree import override
from scripts.figure import panels
from scripts.intervals import Interval
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.tabular import EXACT, Exact, tabular
from scripts.studies.tabular_exact import values
from scripts.studies.tabular_sweep import (
    bias_slope,
    by_task,
    compare,
    compiled,
    estimates,
    present,
    slopes,
    table,
)
from scripts.studies.verdicts import is_above, is_slope

SAMPLES = {"smoke": (4, 16), "small": (4, 16, 64), "paper": (2, 4, 8, 16, 32, 64)}
STEPS = {"smoke": (1, 2), "small": (1, 2, 4, 6), "paper": (1, 2, 3, 4, 5, 6)}
RATES = {"smoke": (1.0, 3.0), "small": (0.3, 1.0, 3.0, 6.0), "paper": (0.3, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0)}
# Below a rate of 1 the compositional bias cannot be told from the noise of so many estimates.
SAMPLED_RATES = {scale: tuple(rate for rate in rates if rate >= 1) for scale, rates in RATES.items()}
REPEATS = {"smoke": 16, "small": 800, "paper": 4_000}
# The squared bias falls as 1/|τ|² and what n estimates' noise adds to it as 1/(n |τ|): n grows with |τ|.
REPEATS_PER_EPISODE = {"smoke": 1, "small": 50, "paper": 100}
AT_ONCE = 64  # estimates; one costs no less among more
RATE, FIXED_STEPS = 3.0, {"smoke": 1, "small": 2, "paper": 2}
FIXED_SAMPLES = {"smoke": 16, "small": 32, "paper": 32}
LONG = 60  # steps of an episode whose end γ^60 makes worthless, for expectations
SURROGATE = {"plain": "plain", "plain, no baseline": "plain", "LVC": "lvc"}
HESSIANS = {"smoke": ("LVC",), "small": tuple(SURROGATE), "paper": tuple(SURROGATE)}
# An error put into the Hessian by hand, as Liu et al. did: h, and learning rates.
ERRORS = {"smoke": (0.5, 4.0), "small": (0.5, 1.0, 2.0, 4.0), "paper": (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)}
# It takes 0.02 h off every eigenvalue: at rate 3, 0.06 h off a Jacobian's, that are about 1. A power of h other than 1
# shows only where it outgrows them.
SMALL, LARGE = 4.0, 1_024.0
LARGER_ERRORS = (16.0, 64.0, 256.0, 1_024.0, 4_096.0)
ERROR_STEPS = {"smoke": (2,), "small": (2, 3), "paper": (2, 3, 4)}
ERROR_AGENTS = {"smoke": ("lirpg",), "small": ("maml", "lirpg"), "paper": ("maml", "lirpg")}
ERROR_RATES = {"smoke": (3.0, 4.5), "small": (3.0, 4.5), "paper": (3.0, 3.5, 4.0, 4.5)}
ERROR_REPEATS = 20


class Sampled(NamedTuple):
    """MAML, updates from samples and all else exact: the compositional bias."""

    samples: int
    steps: int
    rates: tuple[float, ...]
    tasks: int
    repeats: int


class Expected(NamedTuple):
    """LIRPG, Jacobians as a surrogate has them in expectation and all else exact: the Hessian bias, without noise."""

    hessian: str
    steps: int
    rates: tuple[float, ...]
    tasks: int


class Erroneous(NamedTuple):
    """All exact but for an error of size h in the Hessians."""

    agent: str
    sizes: tuple[float, ...]
    steps: int
    rates: tuple[float, ...]
    tasks: int


def _cells(scale: str, seeds: int) -> list[Cell]:
    fixed_steps, fixed_samples, steps = FIXED_STEPS[scale], FIXED_SAMPLES[scale], STEPS[scale]
    repeats, per_episode = REPEATS[scale], REPEATS_PER_EPISODE[scale]
    found = [Cell(f"|τ| = {n}", Sampled(n, fixed_steps, (RATE,), seeds, n * per_episode)) for n in SAMPLES[scale]]
    # The longest window is also the one of the learning rates.
    found += [
        Cell(f"K = {k}", Sampled(fixed_samples, k, SAMPLED_RATES[scale] if k == steps[-1] else (RATE,), seeds, repeats))
        for k in steps
    ]
    found += [
        Cell(f"Hessian, {name}, K = {k}", Expected(name, k, RATES[scale], seeds))
        for name in HESSIANS[scale]
        for k in steps
    ]
    sizes = ERRORS[scale] + LARGER_ERRORS
    found += [
        Cell(f"Hessian, an error of h, {agent}, K = {k}", Erroneous(agent, sizes, k, ERROR_RATES[scale], seeds))
        for agent in ERROR_AGENTS[scale]
        for k in ERROR_STEPS[scale]
    ]
    return found


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """A row for each learning rate and MDP, and for each h of an error."""
    del out
    point, of_kind = cell.content, {Sampled: _sampled, Expected: _expected, Erroneous: _with_errors}
    tell(f"{cell.name}: compiling", 0.0)
    rows = []
    for index, rate in enumerate(point.rates):
        tell(cell.name, index / len(point.rates))
        found = of_kind[type(point)](point, rate)
        rows += [{"kind": type(point).__name__, "steps": point.steps, "rate": rate} | row for row in found]
    return rows


def _sampled(point: Sampled, rate: float) -> list[Row]:
    estimator = compiled(override(tabular("maml"), {"window": point.steps, "streams": point.samples}))
    chunk = min(point.repeats, AT_ONCE)
    exact, path = estimates(estimator, point.tasks, 1, EXACT, rate, chunk)
    found, policies = estimates(estimator, point.tasks, point.repeats, Exact.named("lee"), rate, chunk)
    curvatures = _curvatures(estimator.tasks(point.tasks), path[:, 0], tabular("maml").inner.gamma)
    return [
        {
            "task": task,
            "samples": point.samples,
            "curvature": float(curvatures[task]),
            "inner_error": float(np.mean(np.linalg.norm(policies[task] - path[task, 0], axis=1))),
            "inner_variance": float(policies[task].var(axis=0, ddof=1).sum()),
        }
        | compare(found[task], exact[task, 0])
        for task in range(point.tasks)
    ]


def _expected(point: Expected, rate: float) -> list[Row]:
    settings = {
        "window": point.steps,
        "inner.surrogate": SURROGATE[point.hessian],
        "streams": 1,
        "unroll": LONG + 1,
        "environment.mdp_horizon": LONG,
    }
    noise = None if "no baseline" in point.hessian else 0.0
    estimator = compiled(override(tabular("lirpg"), settings), critic_noise=noise, expected=True, draws=False)
    exact, found = (estimates(estimator, point.tasks, 1, which, rate, 1)[0] for which in (EXACT, Exact.named("ele")))
    biases = _relative_biases(found, exact)
    return [{"task": task, "hessian": point.hessian, "bias": bias} for task, bias in enumerate(biases)]


def _with_errors(point: Erroneous, rate: float) -> list[Row]:
    estimator = compiled(override(tabular(point.agent), {"window": point.steps, "streams": 1}), draws=False)

    def of_size(size: float, repeats: int) -> np.ndarray:
        return estimates(estimator, point.tasks, repeats, EXACT, rate, ERROR_REPEATS, size)[0]

    exact = of_size(0.0, 1)
    return [
        {"task": task, "agent": point.agent, "error": size, "bias": bias}
        for size in point.sizes
        for task, bias in enumerate(_relative_biases(of_size(size, ERROR_REPEATS), exact))
    ]


def _relative_biases(found: np.ndarray, exact: np.ndarray) -> list[float]:
    """Of the mean of estimates [tasks, n, d], against exact ones [tasks, 1, d]."""
    error = np.linalg.norm(found.mean(axis=1) - exact[:, 0], axis=1)
    return list(error / np.linalg.norm(exact[:, 0], axis=1))


@jax.jit
def _curvatures(mdps, policies, gamma):
    """[tasks] largest absolute eigenvalue of the return's Hessian at policies [tasks, S · A]."""

    def of_task(mdp, policy):
        hessian = jax.hessian(lambda x: values(mdp, x.reshape(mdp.reward.shape), gamma)[0])(policy)
        return jax.numpy.abs(jax.numpy.linalg.eigvalsh(hessian)).max()

    return jax.lax.map(lambda pair: of_task(*pair), (mdps, policies))


def _kind(rows: Sequence[Row], kind: str) -> list[Row]:
    return [row for row in rows if row["kind"] == kind]


def _hessians(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["hessian"] for row in rows))


def _hessian_sweeps(rows: Sequence[Row], name: str) -> dict[str, list[Row]]:
    """A Hessian's own, by what is swept: "steps" (of one there is no bias), "rate"."""
    own = [row for row in rows if row["hessian"] == name]
    return {
        "steps": [row for row in own if row["rate"] == RATE and row["steps"] > 1],
        "rate": [row for row in own if row["steps"] == present(own, "steps")[-1]],
    }


def sweeps(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The compositional sweeps by what is swept: "samples", "steps", "rate"."""
    own = _kind(rows, "Sampled")
    return {
        "samples": [row for row in own if row["cell"].startswith("|τ|")],
        "steps": [row for row in own if row["cell"].startswith("K") and row["rate"] == RATE],
        "rate": [row for row in own if row["steps"] == present(own, "steps")[-1] and row["cell"].startswith("K")],
    }


def judge(rows: Sequence[Row]) -> list[Verdict]:
    found = sweeps(rows)
    slope = slopes(found["samples"], "samples", "inner_error", claims=3)
    claim = "the updates' error E‖θ̂^K - θ^K‖ falls as 1/√|τ|"
    verdicts = [is_slope(claim, slope, -0.5, f"slope {slope} of its log against log |τ|")]
    for column, what in (("rate", "the learning rate"), ("steps", "the number of updates K")):
        verdicts.append(_grows(f"it grows with {what}", slopes(found[column], column, "inner_error", claims=3)))
    verdicts.append(_bound(rows))
    bias = "the meta-gradient's compositional bias"
    # Noise in a slope may not turn a claim down: it is, only where the whole interval is on the other side.
    verdicts.append(_bias_verdict(f"{bias} falls at least as 1/√|τ|", found["samples"], "samples", below=-0.5))
    for column, what in (("steps", "K"), ("rate", "the learning rate")):
        verdicts.append(_bias_verdict(f"{bias} grows with {what}", found[column], column, above=0.0))
    return verdicts + _hessian_verdicts(_kind(rows, "Expected")) + _error_verdicts(_kind(rows, "Erroneous"))


def _grows(claim: str, slope: Interval) -> Verdict:
    verdict = "agree" if slope.low > 0 else "disagree" if slope.high < 0 else "undecided"
    return Verdict(claim, f"slope {slope} of logs", verdict)


def _bias_verdict(
    claim: str, rows: Sequence[Row], column: str, *, above: float = -math.inf, below: float = math.inf
) -> Verdict:
    """Whether the slope of the bias' log against that of `column` lies above, or below: one of three such claims."""
    slope = bias_slope(rows, column, claims=3)
    if slope is None:
        return Verdict(claim, "too few estimates to see it", "undecided")
    inside = slope.low >= above and slope.high <= below
    verdict = "agree" if inside else "disagree" if slope.high < above or slope.low > below else "undecided"
    return Verdict(claim, f"slope {slope} of its log against the log of {column}", verdict)


def _error_verdicts(rows: Sequence[Row]) -> list[Verdict]:
    verdicts, agents = [], present(rows, "agent")
    powers = 2 * len(agents) * len(present(rows, "steps"))  # slopes that are held against a power of h
    growths = len(agents) * (1 + (len(present(rows, "steps")) > 1))
    for agent in agents:
        of_agent = [row for row in rows if row["agent"] == agent]
        steps = present(of_agent, "steps")
        for k in steps:
            own = [row for row in of_agent if row["steps"] == k and row["rate"] == RATE]
            small = slopes([row for row in own if row["error"] <= SMALL], "error", "bias", powers)
            large = slopes([row for row in own if row["error"] >= LARGE], "error", "bias", powers)
            biased = f"{agent.upper()}, K = {k:.0f}, an error of h in its Hessians: the bias grows as h"
            verdicts += [
                is_slope(f"our own: {biased} (± 0.1), h ≤ {SMALL:g}", small, 1.0, f"slope {small} of logs"),
                is_slope(f"{biased}^(K-1) (± 0.1), h ≥ {LARGE:g}", large, k - 1, f"slope {large} of logs"),
            ]
            if (
                agent == "maml"
            ):  # of LIRPG's K Jacobians the first, ∂²/∂η∂θ, is free of the error; MAML's are all Hessians
                claim = f"our own: {biased}^K (± 0.1), h ≥ {LARGE:g}"
                verdicts.append(is_slope(claim, large, k, f"slope {large} of logs"))
        at_small = [row for row in of_agent if row["error"] == SMALL]
        by_steps = [row for row in at_small if row["rate"] == RATE]
        by_rate = [row for row in at_small if row["steps"] == steps[-1]]
        claim = f"at h = {SMALL:g} {agent.upper()}'s bias grows with"
        if len(steps) > 1:
            verdicts.append(_grows(f"{claim} K", slopes(by_steps, "steps", "bias", growths)))
        slope = slopes(by_rate, "rate", "bias", growths)
        verdicts.append(_grows(f"{claim} the learning rate (K = {steps[-1]:.0f})", slope))
    return verdicts


def _bound(rows: Sequence[Row]) -> Verdict:
    """Lemma 4.4 with constants measured on each MDP: c₂ the largest curvature on the exact path, σ from one update.

    Of one update itself it says nothing then: there it is Jensen's inequality.
    """
    own, ratios = sweeps(rows)["steps"], []
    for task in range(len(by_task(own, "curvature", steps=1))):
        of_task = [row for row in own if row["task"] == task]
        curvature = max(row["curvature"] for row in of_task)
        (first,) = (row for row in of_task if row["steps"] == 1)
        deviation = np.sqrt(first["inner_variance"] * first["samples"]) / first["rate"]
        ratios += [
            row["inner_error"] * curvature * np.sqrt(row["samples"])
            / (((1 + row["rate"] * curvature) ** row["steps"] - 1) * deviation)
            for row in of_task if row["steps"] > 1
        ]  # fmt: skip
    return Verdict(
        "Lemma 4.4 bounds it (K > 1), with c₂ and σ measured on the exact path",
        f"largest ratio of error and bound {max(ratios):.2f}, of {len(ratios)} (MDPs and K)",
        "agree" if max(ratios) <= 1 else "disagree",
    )


def _hessian_verdicts(rows: Sequence[Row]) -> list[Verdict]:
    steps, hessians = present(rows, "steps"), _hessians(rows)
    plain = [name for name in hessians if name != "LVC"]

    def size(name: str) -> np.ndarray:
        """log10 of the bias [tasks]: of some MDPs it is tens of thousands of times that of others."""
        return np.log10(by_task(rows, "bias", hessian=name, steps=steps[-1], rate=RATE))

    one = max(by_task(rows, "bias", hessian=name, steps=1, rate=RATE).max() for name in hessians)
    verdicts = [
        Verdict(
            "one update of LIRPG has no Hessian bias",
            f"largest relative error {one:.1e}",
            "agree" if one < 1e-3 else "disagree",
        )
    ]
    growths = len(hessians) * (1 + (len(steps) > 2))
    for name in hessians:
        claim, own = f"the relative bias of {name}'s Hessian grows with", _hessian_sweeps(rows, name)
        if len(steps) > 2:
            verdicts.append(_grows(f"{claim} K", slopes(own["steps"], "steps", "bias", growths)))
        slope = slopes(own["rate"], "rate", "bias", growths)
        verdicts.append(_grows(f"{claim} the learning rate (K = {steps[-1]:.0f})", slope))
    for other in plain:
        claim = f"LVC's Hessian is less biased than that of {other} (log10, K = {steps[-1]:.0f})"
        verdicts.append(is_above(claim, size(other), size("LVC"), claims=len(plain)))
    return verdicts


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    labels = {"samples": "episodes |τ|", "steps": "inner updates K", "rate": "learning rate"}
    with panels(out / "compositional.png", 3) as axes:
        for axis, (column, own) in zip(axes, sweeps(rows).items(), strict=True):
            at, error = table(own, column, "inner_error")
            axis.plot(at, error.T, color="0.8", linewidth=1)
            axis.plot(at, error.mean(axis=0), "o-", label="E‖θ̂ - θ‖")
            bias = np.sqrt(np.maximum(table(own, column, "squared_bias")[1].mean(axis=0), 0))
            axis.plot(at, np.where(bias > 0, bias, np.nan), "s-", label="bias of the meta-gradient")
            axis.set(xscale="log", yscale="log", xlabel=labels[column])
            axis.legend()
    expected = _kind(rows, "Expected")
    erroneous = _kind(rows, "Erroneous")
    with panels(out / "hessian.png", 3) as axes:
        for name in _hessians(expected):
            for axis, (column, own) in zip(axes[:2], _hessian_sweeps(expected, name).items(), strict=True):
                at, bias = table(own, column, "bias")
                axis.plot(at, bias.mean(axis=0), "o-", label=name)
        for axis, column in zip(axes[:2], ("steps", "rate"), strict=True):
            axis.set(xlabel=labels[column], ylabel="relative bias", xscale="log", yscale="log")
            axis.legend()
        of_rate = [row for row in erroneous if row["rate"] == RATE]
        for agent, k in sorted({(row["agent"], row["steps"]) for row in of_rate}):
            own = [row for row in of_rate if (row["agent"], row["steps"]) == (agent, k)]
            at, bias = table(own, "error", "bias")
            axes[2].plot(at, bias.mean(axis=0), "o-", label=f"{agent.upper()}, K = {k:.0f}")
        axes[2].set(xlabel="h of an error in the Hessian", ylabel="relative bias", xscale="log", yscale="log")
        axes[2].legend()
    return [
        Figure("compositional.png", "Updates from samples, all else exact; grey: single MDPs"),
        Figure(
            "hessian.png", "Hessians and ∂²/∂η∂θ in expectation, or with an error of h, all else exact; means over MDPs"
        ),
    ]


def setting(scale: str) -> str:
    fixed = FIXED_STEPS[scale]
    return (
        "A seed is a random MDP, as in liu_maml. Compositional bias: MAML, updates from samples, Hessian and outer"
        f" gradient exact; |τ| is swept at K = {fixed}, with {REPEATS_PER_EPISODE[scale]} |τ| estimates for each MDP, K"
        f" and the learning rate at |τ| = {FIXED_SAMPLES[scale]}, with {REPEATS[scale]:,}; rate {RATE:g} otherwise."
        " Hessian bias: LIRPG, updates and outer gradient exact, the Jacobians those of each surrogate in expectation"
        " (`tabular_exact`), so that nothing is sampled; the baseline is the true value. With Jacobians from samples of"
        " their own, as in the theorem, the mean of their product is the product of their means: this bias does not"
        " depend on |τ|. The error of h: all exact, and mean((h + 0.3 ξ) θ²) in the loss that is differentiated again,"
        " which takes 0.02 h off each of a Hessian's eigenvalues, and at rate 3 0.06 h off a Jacobian's; bias of the"
        f" mean of {ERROR_REPEATS}. Slopes are fitted MDP by MDP, that of the compositional bias to what all MDPs have"
        " together (jackknife); intervals are over MDPs, and hold for all claims of a kind together (Bonferroni)."
    )


STUDY = Study(
    title="Liu et al. 2022: growth of compositional and Hessian bias",
    question=(
        "Lemma 4.4: E‖θ̂^K - θ^K‖ is at most ((1 + α c₂)^K - 1) σ/(c₂ √|τ|). Theorem 4.5: the meta-gradient's bias is"
        " O((1 + α c₂ + Δ_H)^(K-1) (E‖θ̂^K - θ^K‖ + Δ_J + K - 1)) at most: the Hessian's error Δ_H enters to the power"
        " K - 1. How fast do these grow?"
    ),
    minutes={
        "smoke": "30 s",
        "small": "10 min beside other work",
        "paper": "1 h (projected from `small`: 40 μs for an episode of an update)",
    },
    seeds={"smoke": 2, "small": 10, "paper": 10},
    cells=_cells,
    run=run,
    judge=judge,
    draw=draw,
    setting=setting,
)
