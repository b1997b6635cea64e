"""Settings of the learner: optimisers, meta-gradient, checkpoints and logs."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class InnerOptimizerConfig:
    name: Literal["sgd", "rmsprop", "adam"] = "rmsprop"
    """Inner optimiser; all are safe to differentiate through."""
    learning_rate: float = 6e-4
    """Learning rate of θ."""
    anneal: bool = True
    """Decay the learning rate linearly to 0 over --frames (over the updates they would give without episode resets)."""
    max_grad_norm: float = 40.0
    """Clip the inner gradient to this global norm (the clip factor is constant to the meta-gradient); 0 for none."""
    decay: float = 0.99
    """rmsprop: decay of the second moment."""
    b1: float = 0.9
    """adam: decay of the first moment."""
    b2: float = 0.999
    """adam: decay of the second moment."""
    eps: float = 0.01
    """rmsprop, adam: added to the second moment inside the root."""
    differentiate_second_moment: bool = False
    """Differentiate through the second moment as well (exact, but unstable where gradients are near 0)."""


@dataclasses.dataclass(frozen=True)
class MetaOptimizerConfig:
    name: Literal["sgd", "rmsprop", "adam"] = "adam"
    """Optimiser of the raw meta-parameters η."""
    learning_rate: float = 1e-3
    """Learning rate of η."""
    anneal: bool = False
    """Decay the learning rate linearly to 0 over --frames (over the updates they would give without episode resets)."""
    b1: float = 0.9
    """adam: decay of the first moment."""
    b2: float = 0.999
    """adam: decay of the second moment."""
    eps: float = 1e-4
    """adam: added to the root of the second moment; rmsprop: added inside the root."""
    decay: float = 0.99
    """rmsprop: decay of the second moment."""
    max_grad_norm: float = 0.0
    """Clip the meta-gradient to this global norm; 0 for none."""


BY_COPIES = ("es", "pes", "finite_differences")  # differentiations by perturbed copies, which act


@dataclasses.dataclass(frozen=True)
class MetaGradientConfig:
    objective: Literal["same", "next", "all", "bootstrap"] = "same"
    """What the window is scored on: the outer loss on the same batch (STAC), the next (MGRL) or all (No DICE); or a
    match with a bootstrapped target (BMG)."""
    differentiation: Literal["reverse", "trace", "es", "pes", "finite_differences"] = "reverse"
    """reverse: adjoint sweep; trace: forward sensitivities dθ/dη; in studies also es, pes and finite_differences, from
    perturbed copies of the life."""
    trace_decay: float = 1.0
    """trace: decay μ in [0, 1] of the old sensitivity; 1 is exact, 0 keeps the last update only."""
    standard_deviation: float = 0.1
    """es, pes: standard deviation σ of the perturbations of raw η; finite_differences: half the difference's width."""
    pairs: int = 1
    """es, pes: antithetic pairs of copies, at η + ε and η - ε."""
    score_returns: Literal["all", "others"] = "all"
    """Sampling correction: weight each stream's score by the mean return of all streams, or of the others only."""
    score_reduction: Literal["sum", "mean"] = "sum"
    """Sampling correction: a batch's score is a sum over its N = T·B actions (No DICE; λ = 1 is unbiased) or a mean
    (E-MAML's 1/N; λ = N is unbiased)."""
    baseline: Literal["running_mean", "none", "other_streams"] = "running_mean"
    """Sampling correction: baseline subtracted from later returns. Unbiased: running_mean, none. Biased: other_streams,
    those of the same batch, which θ changes too."""
    baseline_decay: float = 0.99
    """Sampling correction: decay of the baseline running_mean, which is fixed before each batch is acted."""
    linearization: Literal["auto", "keep", "rebuild"] = "auto"
    """reverse: keep each update's linearisation for the sweep (least arithmetic; memory grows with K), or recompute it
    (rebuild; flat memory)."""
    diagnostics: int = 1
    """Compute diagnostics in every N-th window, 0 for never: with λ > 0 the direct and correction parts separately;
    with trace, each stream's share. Costs FLOPs."""


@dataclasses.dataclass(frozen=True)
class BootstrapConfig:
    """The bootstrapped objective; no effect on the others."""

    updates: int = 1
    """L: the target is L - 1 further inner updates and one outer-loss step ahead; a window is K + L - 1 updates."""
    match_policy: float = 1.0
    """Weight of KL(target's policy || policy) on the newest batch, summed or averaged as set by inner.reduction."""
    match_value: float = 0.0
    """Weight of half the squared difference of values on the newest batch, summed or averaged likewise."""
    match_parameters: float = 0.0
    """Weight of half the squared distance of the parameters."""


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    seconds: float = 300.0
    """Seconds between checkpoints. The end of the run, Ctrl-C and SIGTERM always save."""
    keep: int = 2
    """Number of checkpoints to keep."""


@dataclasses.dataclass(frozen=True)
class LogConfig:
    updates: int = 20
    """Inner updates between two lines of metrics.jsonl."""
    tensorboard: bool = True
    """Write TensorBoard events in addition to metrics.jsonl."""
    report: bool = True
    """Draw report.html and curve.png when training ends; `onelife report RUN_DIR` draws them at any time."""
    max_nonfinite: int = 20
    """Consecutive skipped non-finite updates at which training stops, or one later, with its last good state saved."""
