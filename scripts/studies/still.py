"""Estimates of one long life's meta-gradient, with η held still, against what lives earn.

Windows of the same lives are looked at by both parts of the estimate, the direct one and the correction in full, and by
finite differences. Any λ is a mix of the first two, so that bias, variance and squared error are known at all of them.
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from configs.experiment import ExperimentConfig
from scripts.figure import panels
from scripts.intervals import Interval, interval, jackknife
from scripts.lives import Lives
from scripts.studies.base import Cell, Figure, Row, Verdict

WEIGHTS = (0.01, 0.1, 1.0)  # λ; the rule of thumb says (T·B)^(-1/2), 0.06 with 320 actions
SMALL = 0.25  # bias, of the truth


class Still(NamedTuple):
    """Lives whose η is held still: the same ones, looked at in two ways."""

    estimate: ExperimentConfig  # with λ = 1, or 0 where no correction is asked about, told apart from the direct part
    truth: ExperimentConfig  # by finite differences
    tuned: tuple[str, ...]  # meta-parameters, one number each
    lives: int


def look(cell: Cell, tell: Callable[[str, float], None]) -> list[Row]:
    """A row for each life and meta-parameter (see `_looked_at`)."""
    still, found = cell.content, []
    for index, config in enumerate((still.estimate, still.truth)):
        tell(f"{cell.name}: {config.meta_gradient.differentiation}", index / 2)
        lives = Lives(config, record_gradient=True)
        _, records = lives.run(lives.start(range(still.lives)), round(config.frames / lives.steps_per_window))
        found.append({name: np.asarray(x, np.float64) for name, x in records.items() if name.endswith("vector")})
    estimate, truth = found
    direct = estimate["meta_grad/direct_vector"]
    correction = estimate["meta_grad/vector"] - direct if still.estimate.correction else None

    def of(values: np.ndarray | None, seed: int, i: int) -> np.ndarray | None:
        return None if values is None else values[seed, :, i]

    return [
        {"seed": seed, "parameter": parameter}
        | _looked_at(*(of(x, seed, i) for x in (direct, truth["meta_grad/vector"], correction)))
        for seed in range(still.lives)
        for i, parameter in enumerate(sorted(still.tuned))
    ]


def _looked_at(direct: np.ndarray, truth: np.ndarray, correction: np.ndarray | None) -> Row:
    """One life's: estimates [windows] of the derivative of the outer loss by one meta-parameter.

    Of the direct part and of what λ = 1 adds to it, means and variances; covariance: of the two; truth: the mean of
    finite differences. An estimate at any λ is direct + λ correction, window by window.
    """
    row = {"windows": len(direct), "truth": truth.mean()}
    row |= {"direct": direct.mean(), "direct_variance": direct.var(ddof=1)}
    if correction is not None:
        row |= {"correction": correction.mean(), "correction_variance": correction.var(ddof=1)}
        row["covariance"] = np.cov(direct, correction)[0, 1]
    return row


def _columns(rows: Sequence[Row], group: str, parameter: str) -> dict[str, np.ndarray]:
    """[lives] of every column of a group whose η is held still."""
    own = [row for row in rows if row["cell"] == group and row["parameter"] == parameter]
    names = [name for name in own[0] if name not in ("cell", "seed", "parameter") and own[0][name] != ""]
    return {name: np.array([row[name] for row in own]) for name in names}


_COLUMNS = ("windows", "direct", "truth", "direct_variance", "correction", "correction_variance", "covariance")


def _squared_error(mean: np.ndarray, weight: float) -> float:
    """At λ = `weight`, of the estimate averaged over a life's windows: squared bias and variance, from `_COLUMNS`."""
    windows, direct, truth, direct_variance, correction, correction_variance, covariance = mean
    variance = direct_variance + 2 * weight * covariance + weight**2 * correction_variance
    return (direct + weight * correction - truth) ** 2 + variance / windows


def _by_life(found: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([found[name] for name in _COLUMNS], axis=1)


def _error(found: dict[str, np.ndarray], weight: float) -> Interval:
    """Squared error at a λ. Jackknife over lives, so that the noise of the mean is not counted as bias.

    Where the bias is no more than two standard errors its square is skewed, and 87 % of such intervals of 95 % hold
    (20 lives).
    """
    return jackknife(lambda mean: _squared_error(mean, weight), _by_life(found))


def _gain(found: dict[str, np.ndarray], weight: float, level: float = 0.95) -> Interval:
    """log10 of the squared error at a λ, in units of that without correction."""

    def statistic(mean: np.ndarray) -> float:
        return np.log10(_squared_error(mean, weight) / _squared_error(mean, 0.0))

    return jackknife(statistic, _by_life(found), level)


def judge_still(rows: Sequence[Row], groups: Sequence[str], tuned: Sequence[str]) -> list[Verdict]:
    """Of every group and meta-parameter: is it biased, and does a λ pay."""
    verdicts, claims = [], len(groups) * len(tuned)
    for group, parameter in itertools.product(groups, tuned):
        found, where = _columns(rows, group, parameter), f"{group}, {parameter}"
        verdicts.append(_is_biased(where, found, claims))
        if "correction" in found:
            verdicts += [_pays(where, found, weight, claims * len(WEIGHTS)) for weight in WEIGHTS]
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


def judge_variant(rows: Sequence[Row], group: str, variant: str, parameter: str) -> list[Verdict]:
    """Whether the estimate is less far off in a variant of a group: in itself, and as a multiple of the derivative.

    The variant's lives learn in another way, so that the derivative of what they earn is another one.
    """
    names = ("direct", "truth")
    values = [_columns(rows, name, parameter)[column] for name in (variant, group) for column in names]
    means = np.reshape([column.mean() for column in values], (2, 2))
    gap, factor = abs(means[:, 0] - means[:, 1]), means[:, 0] / means[:, 1]

    def gained(mean: np.ndarray) -> float:
        return abs(mean[2] - mean[3]) - abs(mean[0] - mean[1])

    def log_ratio(mean: np.ndarray) -> float:
        return np.log10(abs((mean[2] / mean[3]) / (mean[0] / mean[1])))

    verdicts = []
    for claim, found, unit, statistic, name in (
        ("is nearer the derivative", gap, "off", gained, "difference"),
        ("is a smaller multiple of the derivative", factor, "times", log_ratio, "log10 of the ratio"),
    ):
        gain = jackknife(statistic, np.stack(values, axis=1), 1 - 0.05 / 2)
        verdicts.append(
            Verdict(
                f"{variant}, {parameter}: without correction the estimate's mean {claim} than in {group}",
                f"{found[0]:.3g} against {found[1]:.3g} {unit}; {name}, paired {gain}, n = {len(values[0])}",
                "agree" if gain.low > 0 else "disagree" if gain.high < 0 else "undecided",
            )
        )
    return verdicts


def _pays(where: str, found: dict[str, np.ndarray], weight: float, claims: int) -> Verdict:
    gain = _gain(found, weight, 1 - 0.05 / claims)
    return Verdict(
        f"{where}: averaged over a life, the estimate has less squared error at λ = {weight:g} than without correction",
        f"{_error(found, weight)} against {_error(found, 0.0)}; log10 of the ratio {gain}, n = {len(found['direct'])}",
        "agree" if gain.high < 0 else "disagree" if gain.low > 0 else "undecided",
    )


def draw_planes(rows: Sequence[Row], groups: Sequence[str], parameter: str, path: Path) -> Figure:
    """Bias against variance of a meta-parameter's estimate, at a few λ."""
    with panels(path, len(groups)) as every:
        for axes, group in zip(every, groups, strict=True):
            found = _columns(rows, group, parameter)
            for weight in (0.0, *WEIGHTS):
                bias = interval(found["direct"] + weight * found["correction"] - found["truth"])
                variance = found["direct_variance"] + 2 * weight * found["covariance"]
                variance += weight**2 * found["correction_variance"]
                error = [[bias.mean - bias.low], [bias.high - bias.mean]]
                axes.errorbar(variance.mean(), bias.mean, error, fmt="o", label=f"λ = {weight:g}")
            axes.axhline(0.0, color="grey", linewidth=0.5)
            axes.set(title=group, xlabel=f"variance of one window's estimate, {parameter}", xscale="log")
            axes.set(ylabel="bias, 95 % over lives")
            none = interval(found["direct"] - found["truth"])
            _symlog(axes, max(abs(none.low), abs(none.high)))
            low, high = axes.get_xlim()
            axes.set_xlim(low * (low / high) ** 0.45, high)  # room for the legend, left of all points
            axes.legend(loc="upper left")
    return Figure(
        path.name, f"The running estimate for {parameter}, η held still: variance, and bias against finite differences"
    )


def _symlog(axes: Any, inside: float) -> None:
    """y is linear as far as `inside` and half as far again, logarithmic beyond; few ticks, with short labels."""
    if not 0 < inside < np.inf:
        return
    axes.set_yscale("symlog", linthresh=1.5 * inside)
    low, high = axes.get_ylim()
    decade = 10.0 ** np.floor(np.log10(inside))
    first = decade * max(digit for digit in (1, 2, 5) if decade * digit <= inside)
    ticks = [first, *(tick for tick in decade * 10.0 ** np.arange(1, 30) if 2 * first <= tick <= max(-low, high))]
    axes.set_yticks([*(-tick for tick in ticks), 0.0, *ticks])
    axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylim(low, high)


def draw_errors(rows: Sequence[Row], groups: Sequence[str], tuned: Sequence[str], path: Path) -> Figure:
    """Squared error of the mean over a life against λ, for each meta-parameter."""
    weights = np.logspace(-3, 0, 31)
    with panels(path, len(groups)) as every:
        for axes, group in zip(every, groups, strict=True):
            for parameter in tuned:
                found = _columns(rows, group, parameter)
                errors = 10 ** np.array([_gain(found, weight) for weight in weights])
                (line,) = axes.plot(weights, errors[:, 0], label=parameter)
                axes.fill_between(weights, *errors[:, 1:].T, color=line.get_color(), alpha=0.2, linewidth=0)
            axes.axhline(1.0, color="grey", linewidth=0.5)
            axes.set(title=group, xlabel="λ", xscale="log", yscale="log")
            axes.set(ylabel="squared error of a life's mean estimate")
            axes.legend()
    caption = "Squared error of the estimate averaged over a life, in units of that without correction; bands: 95 %"
    return Figure(path.name, caption)
