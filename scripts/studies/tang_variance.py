"""Tang 2021, the toy: how the variance of the score function (SF) and of its linearisation (LSF) grows with N."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from agents.surrogates import linearised, score_function
from scripts.figure import panels
from scripts.intervals import draw_interval, interval, jackknife
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.verdicts import is_equal, is_slope

MEAN = DEVIATION = 1.0  # with mean 0 the score function's variance would not grow with N
SIZES = {"smoke": (16, 64), "small": (16, 32, 64, 128, 256), "paper": (16, 32, 64, 128, 256, 512, 1024)}
SAMPLES = {"smoke": 2_000, "small": 200_000, "paper": 2_000_000}
CHUNK = 10_000
GROUPS = 20  # of independent samples: the spread over them gives the intervals
OUTER = {"identity": lambda x: x, "square": jnp.square}
TRUTH = {"identity": 1.0, "square": 2 * MEAN}  # d f(μ) / dμ: the gradient with infinitely many samples


def log_density(x: jax.Array, mean: jax.Array) -> jax.Array:
    return -0.5 * jnp.square((x - mean) / DEVIATION)


def _sf(f: Callable, x: jax.Array, mean: jax.Array) -> jax.Array:
    return score_function(jnp.full(x.shape, f(x.mean())), log_density(x, mean))


def _lsf(f: Callable, x: jax.Array, mean: jax.Array) -> jax.Array:
    return f(jnp.mean(linearised(x, log_density(x, mean))))


EXACT = {"SF": lambda n: n * MEAN**2 / DEVIATION**2 + 2, "LSF": lambda n: (MEAN**2 / DEVIATION**2 + 2) / n}
ESTIMATORS = {"SF": _sf, "LSF": _lsf}


def _cells(scale: str, seeds: int) -> list[Cell]:
    return [Cell(f"N = {size}", (size, SAMPLES[scale], seeds)) for size in SIZES[scale]]


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """Mean and variance of both estimators' gradients, for both outer functions, in independent groups."""
    del out
    size, samples, groups = cell.content

    def gradients(key: jax.Array) -> dict[str, jax.Array]:
        x = MEAN + DEVIATION * jax.random.normal(key, (size,))
        return {
            f"{name} {outer}": jax.grad(lambda mean, e=estimator, f=f: e(f, x, mean))(MEAN)
            for name, estimator in ESTIMATORS.items()
            for outer, f in OUTER.items()
        }

    many = jax.jit(jax.vmap(gradients))
    rows = []
    for repeat in range(groups):
        tell(cell.name, repeat / groups)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), size), repeat)
        per_group = max(2, samples // groups)
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


def _by_group(rows: Sequence[Row], estimator: str, column: str) -> tuple[np.ndarray, np.ndarray]:
    """[sizes] and [groups, sizes] of a column."""
    own = [row for row in rows if row["estimator"] == estimator]
    sizes, groups = (sorted({row[name] for row in own}) for name in ("size", "repeat"))
    at = {(row["repeat"], row["size"]): row[column] for row in own}
    return np.array(sizes), np.array([[at[group, size] for size in sizes] for group in groups])


def judge(rows: Sequence[Row]) -> list[Verdict]:
    verdicts = []
    for name, expected in (("SF", 1.0), ("LSF", -1.0)):
        sizes, variance = _by_group(rows, f"{name} identity", "variance")
        slope = interval(np.polyfit(np.log(sizes), np.log(variance).T, 1)[0], 1 - 0.05 / 2)
        measured = f"slope {slope} of log variance against log N"
        verdicts.append(is_slope(f"the variance of {name} goes as N^{expected:+.0f}", slope, expected, measured))
        formula = {"SF": "N μ²/σ² + 2", "LSF": "(μ²/σ² + 2)/N"}[name]
        verdicts.append(is_equal(f"the variance of {name} is {formula}", variance, EXACT[name](sizes)))
    for name in ESTIMATORS:
        sizes, means = _by_group(rows, f"{name} identity", "mean")
        exact = np.full(len(sizes), TRUTH["identity"])
        verdicts.append(is_equal(f"{name} is unbiased where f is linear", means, exact))
    sizes, means = _by_group(rows, "LSF square", "mean")
    return [
        *verdicts,
        _falls(sizes, means - TRUTH["square"]),
        is_equal("here that bias is 2μ/N exactly, faster than the bound", means, TRUTH["square"] + 2 * MEAN / sizes),
    ]


def _falls(sizes: np.ndarray, biases: np.ndarray) -> Verdict:
    claim = "the bias of LSF (f = x²) falls at least as 1/√N"
    total = biases.sum(axis=0)
    if len(biases) < 2 or min((total - group).min() for group in biases) <= 0:
        return Verdict(claim, "too few samples to see it", "undecided")
    slope = jackknife(lambda bias: np.polyfit(np.log(sizes), np.log(bias), 1)[0], biases)
    verdict = "agree" if slope.high <= -0.5 else "disagree" if slope.low > -0.5 else "undecided"
    return Verdict(claim, f"slope {slope} of log bias against log N", verdict)


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    with panels(out / "variance.png", 2) as axes:
        for name in ESTIMATORS:
            sizes, variance = _by_group(rows, f"{name} identity", "variance")
            axes[0].plot(sizes, variance.mean(axis=0), "o", label=name)
            axes[0].plot(sizes, EXACT[name](sizes), "k:", linewidth=1)
        sizes, means = _by_group(rows, "LSF square", "mean")
        bias = means.mean(axis=0) - TRUTH["square"]
        draw_interval(axes[1], sizes, (means - TRUTH["square"]).T, "LSF, f = x²", marker="o", linestyle="")
        axes[1].plot(sizes, 2 * MEAN / sizes, "k:", linewidth=1, label="2μ/N")
        axes[1].plot(sizes, bias[0] * np.sqrt(sizes[0] / sizes), "k--", linewidth=1, label="1/√N")
        for axis, label in zip(axes, ("variance, f = x", "bias"), strict=True):
            axis.set(xscale="log", yscale="log", xlabel="samples N", ylabel=label)
            axis.legend()
    return [Figure("variance.png", "Variance (dotted: exact) and bias against N; band: 95 %")]


def setting(scale: str) -> str:
    return (
        "x_i normal with mean and deviation 1, d f(x̄)/dμ from N samples: SF = f(x̄) Σ ∇log p, LSF = ∇f (1/N) Σ x_i ∇log"
        f" p, both by autodiff of their surrogates; {SAMPLES[scale]:,} estimates for each N, in as many groups as"
        " --seeds says; intervals are over groups, those of the two variances' slopes hold together (Bonferroni)."
    )


STUDY = Study(
    title="Tang 2021: variance of SF and LSF on the toy",
    question=(
        "Lemmas 3.1, 4.1 and 4.2 of the paper: the score function estimator is unbiased with a variance of order N, its"
        " linearisation has a bias of order 1/√N at most and a variance of order 1/N."
    ),
    minutes={"smoke": "5 s", "small": "30 s", "paper": "20 min (projected from `small`: 0.3 µs a sample)"},
    seeds=dict.fromkeys(SAMPLES, GROUPS),
    cells=_cells,
    run=run,
    judge=judge,
    draw=draw,
    setting=setting,
)
