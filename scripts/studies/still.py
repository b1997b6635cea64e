"""Estimates of one long life's meta-gradient, with η held still, against what lives earn.

Windows of the same lives are looked at without a correction, with it in full, and by finite differences. An estimate at
any λ is a mix of the first two, so that bias, variance and squared error are known at all of them.
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from configs.experiment import ExperimentConfig
from scripts.figure import panels
from scripts.lives import Lives
from scripts.studies.base import Cell, Figure, Row, Verdict
from scripts.studies.statistics import Interval, interval, is_above

LARGEST = 0.01  # the λ that the best one is held against: a sixth of the rule of thumb, (T·B)^(-1/2) with 320 actions
SMALL = 0.25  # bias, of the truth
NONE, FULL, TRUTH = "none", "full", "truth"


class Still(NamedTuple):
    """Lives whose η is held still: the same ones, looked at by every estimate."""

    estimates: dict[str, ExperimentConfig]  # NONE, TRUTH, and FULL where a correction is asked about
    tuned: tuple[str, ...]  # meta-parameters, one number each
    lives: int


def look(cell: Cell, tell: Callable[[str, float], None]) -> list[Row]:
    """A row for each life and meta-parameter (see `_looked_at`)."""
    estimates, tuned, count = cell.content
    found = {}
    for index, (name, config) in enumerate(estimates.items()):
        tell(f"{cell.name}: {name}", index / len(estimates))
        lives = Lives(config)
        _, records = lives.run(lives.start(range(count)), round(config.frames / lives.steps_per_window))
        found[name] = {parameter: np.asarray(records[f"meta_grad/of_{parameter}"], np.float64) for parameter in tuned}
    return [
        {"seed": seed, "parameter": parameter} | _looked_at({name: own[parameter][seed] for name, own in found.items()})
        for seed in range(count)
        for parameter in tuned
    ]


def _looked_at(estimates: dict[str, np.ndarray]) -> Row:
    """One life's: estimates [windows] of the derivative of the outer loss by one meta-parameter.

    direct: mean and variance without correction; correction: of what λ = 1 adds; covariance: of the two; truth: the
    mean of finite differences. An estimate at any λ is direct + λ correction, window by window.
    """
    direct = estimates[NONE]
    row = {"windows": len(direct), "truth": estimates[TRUTH].mean()}
    row |= {"direct": direct.mean(), "direct_variance": direct.var(ddof=1)}
    if FULL in estimates:
        correction = estimates[FULL] - direct
        row |= {"correction": correction.mean(), "correction_variance": correction.var(ddof=1)}
        row["covariance"] = np.cov(direct, correction)[0, 1]
    return row


def _columns(rows: Sequence[Row], group: str, parameter: str) -> dict[str, np.ndarray]:
    """[lives] of every column of a group whose η is held still."""
    own = [row for row in rows if row["cell"] == group and row["parameter"] == parameter]
    names = [name for name in own[0] if name not in ("cell", "seed", "parameter") and own[0][name] != ""]
    return {name: np.array([row[name] for row in own]) for name in names}


class Dial(NamedTuple):
    """What λ does to the mean over a life's windows of one meta-parameter's estimate."""

    windows: float
    bias: Interval  # without correction
    direct: float  # variance of a window's estimate without correction
    correction: float  # of what λ = 1 adds to it
    covariance: float

    @classmethod
    def of(cls, found: dict[str, np.ndarray], level: float = 0.95) -> "Dial":
        names = ("direct_variance", "correction_variance", "covariance")
        return cls(
            found["windows"].mean(),
            interval(found["direct"] - found["truth"], level),
            *(found[name].mean() for name in names),
        )

    def squared_error(self, weight: np.ndarray, bias: float) -> np.ndarray:
        """Of the mean over the life's windows at each λ, were the bias without correction this, and none at λ = 1."""
        noise = self.direct + 2 * weight * self.covariance + weight**2 * self.correction
        return (1 - weight) ** 2 * bias**2 + noise / self.windows

    def best(self, bias: float) -> float:
        """The λ in [0, 1] of the least squared error."""
        noise, gain = self.correction / self.windows, bias**2
        return float(np.clip((gain - self.covariance / self.windows) / (gain + noise), 0, 1))

    def bounds(self) -> tuple[float, float]:
        """Of the best λ, over the interval of the bias."""
        ends = np.abs([self.bias.low, self.bias.high])
        return self.best(0.0 if self.bias.low < 0 < self.bias.high else ends.min()), self.best(ends.max())


def judge_still(rows: Sequence[Row], groups: Sequence[str], tuned: Sequence[str]) -> list[Verdict]:
    """Of every group and meta-parameter: is it biased, what does λ = 1 cost, and does a λ pay."""
    verdicts, claims = [], len(groups) * len(tuned)
    for group, parameter in itertools.product(groups, tuned):
        found, where = _columns(rows, group, parameter), f"{group}, {parameter}"
        verdicts.append(_is_biased(where, found, claims))
        if "correction" in found:
            claim = f"{where}: one window's estimate varies more at λ = 1 than without correction"
            total = found["direct_variance"] + 2 * found["covariance"] + found["correction_variance"]
            variances = [np.log10(variance) for variance in (total, found["direct_variance"])]
            verdicts.append(is_above(claim, *variances, ", log10 of the variance", claims))
            verdicts.append(_is_worth_it(where, Dial.of(found, 1 - 0.05 / claims)))
    return verdicts


def _is_biased(where: str, found: dict[str, np.ndarray], claims: int) -> Verdict:
    off = interval(found["direct"] - found["truth"], 1 - 0.05 / claims)
    margin = SMALL * abs(found["truth"].mean())
    far, near = off.low > margin or off.high < -margin, -margin < off.low and off.high < margin
    return Verdict(
        f"{where}: without correction the estimate's mean is more than a quarter off the derivative of what lives earn",
        f"{interval(found['direct'])} against {interval(found['truth'])} by finite differences; paired difference"
        f" {off}, a quarter {margin:.4g}, n = {len(found['direct'])}",
        "agree" if far else "disagree" if near else "undecided",
    )


def _is_worth_it(where: str, dial: Dial) -> Verdict:
    low, high = dial.bounds()
    return Verdict(
        f"{where}: averaged over a life, a λ above {LARGEST:g} has the least squared error",
        f"the best λ is between {low:.2g} and {high:.2g}, by the interval of the bias; {dial.windows:.0f} windows",
        "agree" if low > LARGEST else "disagree" if high < LARGEST else "undecided",
    )


def draw_planes(rows: Sequence[Row], groups: Sequence[str], parameter: str, path: Path) -> Figure:
    """Bias against variance of a meta-parameter's estimate, at a few λ."""
    with panels(path, len(groups)) as every:
        for axes, group in zip(every, groups, strict=True):
            found = _columns(rows, group, parameter)
            dial = Dial.of(found)
            for weight in (0.0, 0.01, 0.1, 1.0):
                bias = interval(found["direct"] + weight * found["correction"] - found["truth"])
                variance = dial.direct + 2 * weight * dial.covariance + weight**2 * dial.correction
                error = [[bias.mean - bias.low], [bias.high - bias.mean]]
                axes.errorbar(variance, bias.mean, error, fmt="o", label=f"λ = {weight:g}")
            axes.axhline(0.0, color="grey", linewidth=0.5)
            axes.set(title=group, xlabel=f"variance of one window's estimate, {parameter}", xscale="log")
            axes.set(ylabel="bias, 95 % over lives")
            axes.set_yscale("symlog", linthresh=float(np.abs(found["direct"].mean())))
            axes.legend()
    return Figure(
        path.name, f"The running estimate for {parameter}, η held still: variance, and bias against finite differences"
    )


def draw_errors(rows: Sequence[Row], groups: Sequence[str], tuned: Sequence[str], path: Path) -> Figure:
    """Error of the mean over a life against λ, for each meta-parameter."""
    weights = np.logspace(-5, 0, 101)
    with panels(path, len(groups)) as every:
        for axes, group in zip(every, groups, strict=True):
            for parameter in tuned:
                dial = Dial.of(_columns(rows, group, parameter))
                none = np.sqrt(dial.direct / dial.windows)
                ends = np.abs([dial.bias.low, dial.bias.high])
                least = 0.0 if dial.bias.low < 0 < dial.bias.high else ends.min()
                low, mean, high = (
                    np.sqrt(dial.squared_error(weights, bias)) / none for bias in (least, dial.bias.mean, ends.max())
                )
                (line,) = axes.plot(weights, mean, label=parameter)
                axes.fill_between(weights, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
            axes.set(title=group, xlabel="λ", xscale="log", yscale="log")
            axes.set(ylabel="error of a life's mean estimate")
            axes.legend()
    return Figure(
        path.name,
        "Root mean square error of the estimate averaged over a life, in units of its noise without correction; band:"
        " over the 95 % interval of the bias",
    )
