"""Bias and variance of meta-gradient estimators, over whole lives in the graph."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from configs.experiment import ExperimentConfig
from configs.tree import ConfigError, override
from scripts.figure import panels
from scripts.lives import Lives

CHUNK = 1_000  # lives side by side

Eta = dict[str, Any]  # raw scalar meta-parameters by name
Sampler = Callable[[Eta | None, int], np.ndarray]  # (η, samples) -> [samples, d]; η None: the agent's own at birth


class Problem(NamedTuple):
    """What is to be differentiated: the mean reward of a whole life, in scalar meta-parameters."""

    config: ExperimentConfig  # its window is the whole life; objective "all", on-policy
    own_tasks: bool = True


class Row(NamedTuple):
    """One estimator at one η. Vectors are over the meta-parameters, in the order of their names."""

    estimator: str
    mean: np.ndarray  # of the estimate of the gradient of the mean reward (to be ascended)
    error: np.ndarray  # its standard error
    variance: float  # of one life's estimate, summed over meta-parameters
    bias: float  # Euclidean distance of the mean from the reference
    squared_bias: float  # mean over meta-parameters of the squared difference (as the figures of No DICE)
    cosine: float  # of the mean with the reference
    snr: float  # norm of the mean over its standard error


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `bias_variance` returns: a table that plots itself."""

    reference: np.ndarray
    reference_error: np.ndarray
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        head = f"{'estimator':24} {'bias':>10} {'cosine':>8} {'variance':>10} {'snr':>8}  mean (± standard error)"
        lines = [head]
        for row in self.rows:
            values = ", ".join(f"{m:.3g} ± {e:.1g}" for m, e in zip(row.mean, row.error, strict=True))
            lines.append(
                f"{row.estimator:24} {row.bias:10.3g} {row.cosine:8.3f} {row.variance:10.3g} {row.snr:8.2f}  {values}"
            )
        return "\n".join(lines)

    def plot(self, path: str | Path) -> None:
        """The plane: squared bias against variance of one life's estimate, a point for each estimator."""
        with panels(path) as (axes,):
            for row in self.rows:
                at = (row.variance, row.squared_bias)
                axes.scatter(*at, s=30)
                axes.annotate(row.estimator, at, textcoords="offset points", xytext=(5, 3))
            axes.set(xlabel="variance of one life's estimate", ylabel="squared bias", xscale="log")


def bias_variance(
    problem: Problem,
    estimators: dict[str, dict[str, Any]],
    samples: int,
    *,
    eps: float = 0.1,
    reference_samples: int | None = None,
    tell: Callable[[str], None] = lambda what: None,
) -> Comparison:
    """Each estimator's bias and variance against central finite differences with common random numbers.

    Args:
      problem: a game in JAX and an agent with scalar meta-parameters, whose outer loss is the policy gradient of the
        mean reward alone (no value, entropy or KL terms, means, no clipping, no bootstrapping past the batch): with any
        other, what is called bias here would be the difference of two objectives.
      estimators: name -> settings that make it, such as {"correction": 1.0}, {"inner.surrogate": "dice"} or
        {"meta_gradient.differentiation": "es"}. A shorter "window" truncates: each life's begins after a random number
        of updates, and fits in; with pes the life is cut into windows, and all of them count.
      samples: lives for each estimator; all use the same seeds.
      eps: the finite differences' width, in raw meta-parameters.
      reference_samples: lives for the finite differences (`samples`, unless given).
    """
    tell("finite differences")
    reference = finite_differences(problem, eps)(None, reference_samples or samples)
    truth, truth_error = reference.mean(axis=0), standard_error(reference)
    rows = []
    for name, settings in estimators.items():
        tell(name)
        estimates = estimator(problem, settings)(None, samples)
        mean, error = estimates.mean(axis=0), standard_error(estimates)
        rows.append(
            Row(
                estimator=name,
                mean=mean,
                error=error,
                variance=float(estimates.var(axis=0, ddof=1).sum()),
                bias=float(np.linalg.norm(mean - truth)),
                squared_bias=float(np.mean((mean - truth) ** 2)),
                cosine=float(mean @ truth / (np.linalg.norm(mean) * np.linalg.norm(truth))),
                snr=float(np.linalg.norm(mean) / np.linalg.norm(error)),
            )
        )
    return Comparison(truth, truth_error, tuple(rows))


def estimator(problem: Problem, settings: dict[str, Any]) -> Sampler:
    """Each life's estimate of the gradient of its mean reward, from the learner itself.

    One window is a life's estimate, wherever it lies; with `pes` all of a life's windows together are.
    """
    config = override(problem.config, {"meta_optimizer.learning_rate": 0.0} | settings)
    life, window = problem.config.window, config.window
    if config.meta_gradient.differentiation != "pes":
        lives, windows, weight = Lives(config, own_tasks=problem.own_tasks, skip=life - window), 1, 1.0
    elif life % window:
        raise ConfigError(f"--window: {window} does not divide the {life} updates of a life, which pes sums over")
    else:
        # Each window divides its sum of rewards by its own number of batches, the life by all of them.
        lives, windows, weight = Lives(config, own_tasks=problem.own_tasks), life // window, (window + 1) / (life + 1)

    def sample(eta: Eta | None, samples: int) -> np.ndarray:
        parts = []
        for seeds in _chunks(samples):
            _, records = lives.run(lives.start(seeds, _repeated(lives, eta, len(seeds))), windows)
            names = sorted(name for name in records if name.startswith("meta_grad/of_"))
            parts.append(np.stack([-np.asarray(records[name], np.float64).sum(axis=1) for name in names], axis=-1))
        return weight * np.concatenate(parts)

    return sample


def finite_differences(problem: Problem, eps: float) -> Sampler:
    """(J(η + eps/2) - J(η - eps/2)) / eps of each life, by coordinate, with the same random numbers on both sides."""
    kind = {"differentiation": "finite_differences", "standard_deviation": eps / 2}
    settings = {f"meta_gradient.{name}": value for name, value in kind.items()}
    return estimator(problem, settings | {"correction": 0.0})


def standard_error(values: np.ndarray) -> np.ndarray:
    """[d] of the mean of [n, d] independent values."""
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


def _repeated(lives: Lives, eta: Eta | None, count: int) -> Eta:
    """Raw η, the agent's own at birth where none is given, once for each life."""
    return {name: np.full(count, value, np.float32) for name, value in (eta or lives.eta()).items()}


def _chunks(samples: int) -> list[Sequence[int]]:
    return [range(first, min(first + CHUNK, samples)) for first in range(0, samples, CHUNK)]
