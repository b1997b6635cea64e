"""Tang 2021, the toy: how the variance of the score function (SF) and of its linearisation (LSF) grows with N."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from agents.surrogates import box
from scripts.figure import panels
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.statistics import Interval, interval, is_slope

MEAN = DEVIATION = 1.0  # with mean 0 the score function's variance would not grow with N
SIZES = {"smoke": (16, 64), "small": (16, 32, 64, 128, 256), "paper": (16, 32, 64, 128, 256, 512, 1024)}
SAMPLES = {"smoke": 2_000, "small": 200_000, "paper": 2_000_000}
CHUNK = 10_000
REPEATS = 20  # independent groups of samples: the spread over them gives the intervals of slopes
OUTER = {"identity": lambda x: x, "square": jnp.square}
TRUTH = {"identity": 1.0, "square": 2 * MEAN}  # d f(μ) / dμ: the gradient with infinitely many samples


def log_density(x: jax.Array, mean: jax.Array) -> jax.Array:
    return -0.5 * jnp.square((x - mean) / DEVIATION)


def score_function(f: Callable, x: jax.Array, mean: jax.Array) -> jax.Array:
    """SF: f(x̄) Σ log p(x_i), with f constant (the sampling correction's form)."""
    return jax.lax.stop_gradient(f(x.mean())) * log_density(x, mean).sum()


def linearised(f: Callable, x: jax.Array, mean: jax.Array) -> jax.Array:
    """LSF: f((1/N) Σ x_i box(log p(x_i))) (DiCE's form)."""
    return f(jnp.mean(x * box(log_density(x, mean))))


EXACT = {"SF": lambda n: n * MEAN**2 / DEVIATION**2 + 2, "LSF": lambda n: (MEAN**2 / DEVIATION**2 + 2) / n}
ESTIMATORS = {"SF": score_function, "LSF": linearised}


def _cells(scale: str, seeds: int) -> list[Cell]:
    return [Cell(f"N = {size}", (size, SAMPLES[scale], seeds)) for size in SIZES[scale]]


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """Mean and variance of both estimators' gradients, for both outer functions, in `REPEATS` independent groups."""
    del out
    size, samples, seed = cell.content

    def gradients(key: jax.Array) -> dict[str, jax.Array]:
        x = MEAN + DEVIATION * jax.random.normal(key, (size,))
        return {
            f"{name} {outer}": jax.grad(lambda mean, e=estimator, f=f: e(f, x, mean))(MEAN)
            for name, estimator in ESTIMATORS.items()
            for outer, f in OUTER.items()
        }

    many = jax.jit(jax.vmap(gradients))
    rows = []
    for repeat in range(REPEATS):
        tell(cell.name, repeat / REPEATS)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), size), repeat)
        per_group = samples // REPEATS
        parts = [
            many(jax.random.split(jax.random.fold_in(key, start), min(CHUNK, per_group - start)))
            for start in range(0, per_group, CHUNK)
        ]
        for name in parts[0]:
            values = np.concatenate([np.asarray(part[name], np.float64) for part in parts])
            rows.append(
                {
                    "size": size,
                    "repeat": repeat,
                    "estimator": name,
                    "mean": values.mean(),
                    "variance": values.var(ddof=1),
                }
            )
    return rows


def _by_repeat(rows: Sequence[Row], estimator: str, value: Callable[[Row], float]) -> tuple[np.ndarray, np.ndarray]:
    """[sizes] and [repeats, sizes]."""
    own = [row for row in rows if row["estimator"] == estimator]
    sizes = sorted({row["size"] for row in own})
    table = [
        [value(row) for row in own if row["repeat"] == r and row["size"] == n] for r in range(REPEATS) for n in sizes
    ]
    return np.array(sizes), np.array(table).reshape(REPEATS, len(sizes))


def _slope(sizes: np.ndarray, values: np.ndarray) -> Interval:
    """Slope of log values against log sizes, over repeats."""
    return interval(np.polyfit(np.log(sizes), np.log(values).T, 1)[0])


def judge(rows: Sequence[Row]) -> list[Verdict]:
    verdicts = []
    for name, expected in (("SF", 1.0), ("LSF", -1.0)):
        slope = _slope(*_by_repeat(rows, f"{name} identity", lambda row: row["variance"]))
        verdicts.append(
            is_slope(
                f"the variance of {name} goes as N^{expected:+.0f}",
                slope,
                expected,
                f"slope {slope} of log variance against log N",
            )
        )
        sizes, variance = _by_repeat(rows, f"{name} identity", lambda row: row["variance"])
        t = np.abs(variance.mean(axis=0) - EXACT[name](sizes)) / (variance.std(axis=0, ddof=1) / np.sqrt(REPEATS))
        limit = stats.t.ppf(1 - 0.005 / len(t), REPEATS - 1)
        formula = {"SF": "N μ²/σ² + 2", "LSF": "(μ²/σ² + 2)/N"}[name]
        measured = f"largest |t| {t.max():.2f} of {len(t)} sizes, limit {limit:.2f}"
        verdicts.append(
            Verdict(f"the variance of {name} is {formula}", measured, "agree" if t.max() < limit else "disagree")
        )
    for name in ESTIMATORS:
        _, means = _by_repeat(rows, f"{name} identity", lambda row: row["mean"])
        z = np.abs(means.mean(axis=0) - TRUTH["identity"]) / (means.std(axis=0, ddof=1) / np.sqrt(REPEATS))
        # Two-sided at 1 % for all sizes together (Bonferroni), Student's t.
        limit = stats.t.ppf(1 - 0.005 / len(z), REPEATS - 1)
        measured = f"largest |t| {z.max():.2f} of {len(z)} sizes, limit {limit:.2f}"
        verdict = "agree" if z.max() < limit else "disagree"
        verdicts.append(Verdict(f"{name} is unbiased where f is linear", measured, verdict))
    sizes, means = _by_repeat(rows, "LSF square", lambda row: row["mean"])
    bias = means.mean(axis=0) - TRUTH["square"]
    error = means.std(axis=0, ddof=1) / np.sqrt(REPEATS)
    seen = bias > 3 * error  # a slope needs biases that stand out of their noise
    if seen.sum() >= 2:
        slope = np.polyfit(np.log(sizes[seen]), np.log(bias[seen]), 1)[0]
        measured = f"slope {slope:.2f} of log bias against log N over N = {', '.join(f'{n:.0f}' for n in sizes[seen])}"
        verdicts.append(
            Verdict(
                "the bias of LSF (f = x²) falls at least as 1/√N", measured, "agree" if slope <= -0.5 else "disagree"
            )
        )
        exact = 2 * MEAN / sizes
        off = np.abs(bias - exact) / error
        verdicts.append(
            Verdict("here that bias is 2μ/N exactly, faster than the bound",
                    f"largest deviation {off.max():.2f} standard errors", "agree" if off.max() < 4 else "disagree")
        )  # fmt: skip
    else:
        verdicts.append(
            Verdict("the bias of LSF (f = x²) falls at least as 1/√N", "too few samples to see it", "undecided")
        )
    return verdicts


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    with panels(out / "variance.png", 2) as axes:
        for name in ESTIMATORS:
            sizes, variance = _by_repeat(rows, f"{name} identity", lambda row: row["variance"])
            axes[0].plot(sizes, variance.mean(axis=0), "o", label=name)
            axes[0].plot(sizes, EXACT[name](sizes), "k:", linewidth=1)
        sizes, means = _by_repeat(rows, "LSF square", lambda row: row["mean"])
        bias, error = means.mean(axis=0) - TRUTH["square"], means.std(axis=0, ddof=1) / np.sqrt(REPEATS)
        axes[1].errorbar(sizes, bias, 2 * error, fmt="o", label="LSF, f = x²")
        axes[1].plot(sizes, 2 * MEAN / sizes, "k:", linewidth=1, label="2μ/N")
        axes[1].plot(sizes, bias[0] * np.sqrt(sizes[0] / sizes), "k--", linewidth=1, label="1/√N")
        for axis, label in zip(axes, ("variance, f = x", "bias"), strict=True):
            axis.set(xscale="log", yscale="log", xlabel="samples N", ylabel=label)
            axis.legend()
    return [Figure("variance.png", "Variance (dotted: exact) and bias against N; bars are two standard errors")]


def setting(scale: str) -> str:
    return (
        "x_i normal with mean and deviation 1, d f(x̄)/dμ from N samples: SF = f(x̄) Σ ∇log p, LSF = ∇f (1/N) Σ x_i ∇log"
        f" p, both by autodiff of their surrogates; {SAMPLES[scale]:,} estimates for each N, in {REPEATS} groups."
    )


STUDY = Study(
    title="Tang 2021: variance of SF and LSF on the toy",
    question=(
        "Lemmas 3.1, 4.1 and 4.2 of the paper: the score function estimator is unbiased with a variance of order N, its"
        " linearisation has a bias of order 1/√N at most and a variance of order 1/N."
    ),
    minutes={"smoke": "5 s", "small": "30 s", "paper": "20 min (projected from `small`: 0.3 µs a sample)"},
    seeds={},
    cells=_cells,
    run=run,
    judge=judge,
    draw=draw,
    setting=setting,
)
