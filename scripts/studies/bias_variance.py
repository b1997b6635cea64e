"""Bias and variance of meta-gradient estimators, over whole lives in the graph."""

import dataclasses
import difflib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from agents.types import MetaParams
from configs.experiment import ExperimentConfig
from configs.tree import ConfigError, leaves, override
from scripts.figure import panels
from scripts.lives import Lives

CHUNK = 1_000  # lives side by side
FEW = 16  # meta-parameters that are looked at one by one
PILOT = 2**30  # the first seed of the lives that choose directions; `samples` are fewer
# What an estimator may set (beginnings of settings): all else is the problem's, and its reference would not know.
ESTIMATOR_SETTINGS = ("window", "correction", "inner.surrogate", "meta_gradient.", "bootstrap.")
GROUPS = 20  # of lives, for standard errors
CLOSE = 1e-3  # sine of the angle below which two directions are one

Sampler = Callable[
    ..., np.ndarray
]  # (raw η, samples, first seed = 0) -> [samples, d]; η None: the agent's own at birth


class Problem(NamedTuple):
    """What is to be differentiated by η: what a whole life earns, as the experiment's objective (all, next) weighs it.

    `config`: its game lives in the graph, and its window is the whole life. `own_tasks`: each life has a task of its
    own, and not that of the settings (None: where the game has tasks).
    """

    config: ExperimentConfig
    own_tasks: bool | None = None


class Statistics(NamedTuple):
    """Of one estimator's lives. Noise in mean and reference adds to the bias: see its standard error."""

    bias: float  # Euclidean distance of the mean from the reference
    squared_bias: float  # mean over coordinates of the squared difference (as the figures of No DICE)
    cosine: float  # of the mean with the reference; nan where one of them is 0
    variance: float  # of one life's estimate, summed over coordinates
    snr: float  # norm of the mean over its standard error; nan where that is 0


class Row(NamedTuple):
    """One estimator. Vectors are over the comparison's `coordinates`."""

    estimator: str
    mean: np.ndarray  # of the estimate of the gradient of what a life earns (to be ascended)
    error: np.ndarray  # its standard error
    statistics: Statistics
    errors: Statistics  # their standard errors, by jackknife over groups of lives


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `bias_variance` returns: a table that plots itself."""

    coordinates: tuple[str, ...]  # meta-parameters, or orthonormal directions of a larger η
    reference: np.ndarray
    reference_error: np.ndarray
    rows: tuple[Row, ...]
    notes: tuple[str, ...]  # what else than the estimator the bias holds, and where the reference holds nothing

    def __str__(self) -> str:
        shown = ("bias", "cosine", "variance", "snr")
        head = f"{'estimator':24}" + "".join(f" {name:>18}" for name in shown)
        lines = [head + "  mean of " + ", ".join(self.coordinates) + "; ± standard errors"]
        for row in self.rows:
            pairs = ((getattr(row.statistics, name), getattr(row.errors, name)) for name in shown)
            numbers = ("-" if math.isnan(value) else f"{value:.3g} ± {error:.1g}" for value, error in pairs)
            lines.append(
                f"{row.estimator:24}" + "".join(f" {n:>18}" for n in numbers) + f"  {_vector(row.mean, row.error)}"
            )
        lines.append(f"{'finite differences':100}  {_vector(self.reference, self.reference_error)}")
        return "\n".join([*lines, *self.notes])

    def plot(self, path: str | Path) -> None:
        """The plane: squared bias against variance of one life's estimate, with standard errors, by estimator."""
        with panels(path) as (axes,):
            for row in self.rows:
                at = (row.statistics.variance, row.statistics.squared_bias)
                axes.errorbar(*at, xerr=row.errors.variance, yerr=row.errors.squared_bias, fmt="o", capsize=2)
                axes.annotate(row.estimator, at, textcoords="offset points", xytext=(5, 3))
            axes.set(xlabel="variance of one life's estimate", ylabel="squared bias", xscale="log")


def bias_variance(
    problem: Problem,
    estimators: dict[str, dict[str, Any]],
    samples: int,
    *,
    eps: float = 0.1,
    reference_samples: int | None = None,
    directions: int = 2,
    tell: Callable[[str], None] = lambda what: None,
) -> Comparison:
    """Each estimator's bias and variance against central finite differences with common random numbers.

    Where η is large (a network; θ⁰), all is looked at in a few orthonormal directions of it: those that the estimators'
    means over other lives span, and random ones.

    Args:
      problem: any agent that tunes something, on any game in JAX. The reference is what lives earn: where the outer
        loss is more than the policy gradient of that (value, entropy and KL terms, bootstrapping), part of what is
        called bias is the difference of the two; the comparison's notes say so.
      estimators: name -> settings that make it, such as {"correction": 1.0}, {"inner.surrogate": "dice"} or
        {"meta_gradient.differentiation": "es"}. A shorter "window" truncates: each life's begins after a random number
        of updates, and fits in; with pes the life is cut into windows, and all of them count.
      samples: lives for each estimator, at least 2; all use the same seeds.
      eps: the finite differences' width, in raw meta-parameters.
      reference_samples: lives for the finite differences (`samples`, unless given).
      directions: how many of them are random, where η is large.

    Raises:
      ConfigError: an estimator sets what is no setting or belongs to the problem; too few samples.
    """
    for own in estimators.values():
        _check_estimator(problem, own)
    if samples < 2:
        raise ConfigError(f"samples: {samples} lives have no spread; at least 2")
    names = _coordinates(problem)
    basis = np.eye(len(names))
    if not names:
        tell("directions")
        means = [
            estimator(problem, own)(None, max(samples // 10, 2), PILOT).mean(axis=0) for own in estimators.values()
        ]
        basis = _orthonormal(means, directions)
        names = tuple(f"direction {i + 1}" for i in range(len(basis)))
    tell("finite differences")
    reference = finite_differences(problem, eps, basis)(None, reference_samples or samples)
    truth, truth_error = reference.mean(axis=0), standard_error(reference)
    rows = []
    for name, settings in estimators.items():
        tell(name)
        estimates = estimator(problem, settings, basis)(None, samples)
        found, errors = _statistics(estimates, reference), _jackknife(estimates, reference)
        rows.append(Row(name, estimates.mean(axis=0), standard_error(estimates), found, errors))
    unmoved = [name for name, differences in zip(names, reference.T, strict=True) if not differences.any()]
    return Comparison(names, truth, truth_error, tuple(rows), _notes(problem.config, unmoved, eps, len(reference)))


def estimator(problem: Problem, settings: dict[str, Any], basis: np.ndarray | None = None) -> Sampler:
    """Each life's estimate of the gradient of what it earns, from the learner itself, along the rows of `basis` [m, d].

    One window is a life's estimate, wherever it lies; with `pes` all of a life's windows together are.
    """
    config = override(problem.config, {"meta_optimizer.learning_rate": 0.0} | settings)
    life, window = problem.config.window, config.window
    windows, weight, skip = 1, 1.0, life - window
    if window > life or (window < life and config.agent == "maml"):
        raise ConfigError(f"--window: {window} does not lie within a life of {life} updates; use {life}")
    if config.meta_gradient.differentiation == "pes":
        if life % window:
            raise ConfigError(f"--window: {window} does not divide the {life} updates of a life, which pes sums over")
        if window < life and config.meta_gradient.objective != "all":
            raise ConfigError(
                f"--window: {window} is scored by its own last batch, and pes sums windows over a life of {life}"
                " updates: use --meta-gradient.objective all, or a window of the whole life"
            )
        # Each window divides its sum of rewards by its own number of batches, the life by all of them.
        windows, weight, skip = life // window, (window + 1) / (life + 1), 0
    lives = Lives(config, own_tasks=problem.own_tasks, skip=skip, record_gradient=True)

    def sample(eta: MetaParams | None, samples: int, first: int = 0) -> np.ndarray:
        parts = []
        for seeds in _chunks(samples, first):
            _, records = lives.run(lives.start(seeds, _repeated(lives, eta, len(seeds))), windows)
            part = -np.asarray(records["meta_grad/vector"], np.float64).sum(axis=1)
            parts.append(part if basis is None else part @ basis.T)
        return weight * np.concatenate(parts)

    return sample


def finite_differences(problem: Problem, eps: float, basis: np.ndarray | None = None) -> Sampler:
    """(J(η + eps u/2) - J(η - eps u/2)) / eps of each life, with the same random numbers on both sides.

    u: the rows of `basis` [m, d]; every coordinate of raw η where none is given. J is `Lives.earned`.
    """
    objective = problem.config.meta_gradient.objective
    if objective not in ("all", "next"):
        raise ConfigError(f"--meta-gradient.objective: {objective} weighs no return; a Problem needs all or next")
    lives = Lives(problem.config, own_tasks=problem.own_tasks)

    def sample(eta: MetaParams | None, samples: int, first: int = 0) -> np.ndarray:
        flat, unravel = ravel_pytree(lives.eta() if eta is None else jax.tree.map(jnp.float32, eta))
        rows = np.eye(flat.size) if basis is None else basis
        parts = []
        for seeds in _chunks(samples, first):

            def earned(step: np.ndarray, seeds: Sequence[int] = seeds) -> np.ndarray:
                moved = _repeated(lives, unravel(flat + jnp.asarray(step, flat.dtype)), len(seeds))
                return np.asarray(lives.earned(seeds, moved), np.float64)

            differences = [(earned(eps / 2 * row) - earned(-eps / 2 * row)) / eps for row in rows]
            parts.append(np.stack(differences, axis=-1))
        return np.concatenate(parts)

    return sample


def standard_error(values: np.ndarray) -> np.ndarray:
    """[d] of the mean of [n, d] independent values."""
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


def _statistics(estimates: np.ndarray, reference: np.ndarray) -> Statistics:
    """Of the lives' [n, d] estimates against [m, d] of the reference."""
    mean, truth = estimates.mean(axis=0), reference.mean(axis=0)
    return Statistics(
        bias=float(np.linalg.norm(mean - truth)),
        squared_bias=float(np.mean((mean - truth) ** 2)),
        cosine=_ratio(mean @ truth, np.linalg.norm(mean) * np.linalg.norm(truth)),
        variance=float(estimates.var(axis=0, ddof=1).sum()),
        snr=_ratio(np.linalg.norm(mean), np.linalg.norm(standard_error(estimates))),
    )


def _ratio(value: float, over: float) -> float:
    return float(value / over) if over else math.nan


def _jackknife(estimates: np.ndarray, reference: np.ndarray) -> Statistics:
    """Standard errors of `_statistics`: lives left out group by group, those of the same seeds together."""
    groups = min(GROUPS, len(estimates), len(reference))
    if groups < 3:  # without one of two lives there is no variance
        return Statistics(*[float("nan")] * len(Statistics._fields))

    def without_group(values: np.ndarray, group: int) -> np.ndarray:
        # Row i is of seed i: so a seed's group is the same whatever the number of lives.
        return values[np.arange(len(values)) % groups != group]

    without = np.array(
        [_statistics(without_group(estimates, group), without_group(reference, group)) for group in range(groups)]
    )
    return Statistics(*map(float, np.sqrt((groups - 1) * without.var(axis=0))))


def _check_estimator(problem: Problem, settings: dict[str, Any]) -> None:
    """That the settings exist, and make another estimator of the same problem."""
    known = [setting.path for setting in leaves(problem.config)]
    allowed = [path for path in known if path.startswith(ESTIMATOR_SETTINGS)]
    objective = problem.config.meta_gradient.objective
    for path, value in settings.items():
        if path == "meta_gradient.objective" and value in {"all", "next"} - {objective}:
            raise ConfigError(
                f"estimator setting {path!r} ({value!r}) belongs to the problem, whose own is {objective}"
            )
        if path not in allowed:
            near = difflib.get_close_matches(path, allowed, n=1)
            why = "belongs to the problem" if path in known else "is no setting"
            hint = f"; did you mean {near[0]}?" if near else f"; allowed: {', '.join(ESTIMATOR_SETTINGS)}"
            raise ConfigError(f"estimator setting {path!r} ({value!r}) {why}{hint}")


def _coordinates(problem: Problem) -> tuple[str, ...]:
    """The names of η's scalars in the order of its vector, where they are few; else none."""
    eta = Lives(problem.config).eta()
    leaves = jax.tree.leaves_with_path(eta)
    if not leaves:
        raise ConfigError(f"--agent: {problem.config.agent} tunes nothing, so that there is nothing to compare")
    few = all(np.ndim(leaf) == 0 for _, leaf in leaves) and len(leaves) <= FEW
    return tuple(jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves) if few else ()


def _orthonormal(means: Sequence[np.ndarray], random: int) -> np.ndarray:
    """[m, d] directions that span the means, and so many random ones."""
    drawn = np.random.default_rng(0).standard_normal((random, means[0].size))
    rows = np.stack([*means, *drawn])
    basis: list[np.ndarray] = []
    for row in rows / np.linalg.norm(rows, axis=1, keepdims=True):
        for _ in range(2):  # once more, for rounding
            row = row - sum((own @ row * own for own in basis), np.zeros_like(row))
        if np.linalg.norm(row) > CLOSE:
            basis.append(row / np.linalg.norm(row))
    return np.stack(basis)


def _notes(config: ExperimentConfig, unmoved: Sequence[str], eps: float, lives: int) -> tuple[str, ...]:
    """Along which coordinates the reference is 0 for want of effect, and what the outer loss has beside the policy
    gradient of what lives earn."""
    notes = ()
    if unmoved:
        notes = (
            f"note: the reference is 0 along {', '.join(unmoved)}: ± {eps / 2:g} there never changed what any of"
            f" {lives} lives earned; raise eps ({eps:g}) or the number of lives",
        )
    if config.agent == "bandit":  # its outer loss is that gradient
        return notes
    outer = config.outer
    weights = {name: getattr(outer, name) for name in ("value_weight", "entropy_weight", "kl_weight")}
    beside = [f"--outer.{name.replace('_', '-')} {value:g}" for name, value in weights.items() if value]
    beside += [f"--outer.gamma {outer.gamma:g}"] if outer.gamma != 1 and not config.inner.discount_states else []
    beside += ["values in place of rewards where an episode does not end within its batch"]
    return (
        *notes,
        f"note: the outer loss is not what lives earn alone, and its bias is counted in: {', '.join(beside)}",
    )


def _repeated(lives: Lives, eta: MetaParams | None, count: int) -> MetaParams:
    """Raw η, the agent's own at birth where none is given, once for each life."""
    eta = lives.eta() if eta is None else eta
    return jax.tree.map(lambda x: np.broadcast_to(np.asarray(x, np.float32), (count, *np.shape(x))), eta)


def _vector(mean: np.ndarray, error: np.ndarray) -> str:
    return ", ".join(f"{m:.3g} ± {e:.1g}" for m, e in zip(mean, error, strict=True))


def _chunks(samples: int, first: int) -> list[Sequence[int]]:
    end = first + samples
    return [range(begin, min(begin + CHUNK, end)) for begin in range(first, end, CHUNK)]
