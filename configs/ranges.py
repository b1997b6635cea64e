"""The range of every number of the settings tree."""

from typing import Any, NamedTuple

from actors.environments.make import MAX_ACTORS
from configs.tree import ConfigError


class Range(NamedTuple):
    """An interval of allowed values; an end that is None is open to infinity."""

    low: float
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        if self.high is None:
            return above
        return above and (value < self.high if self.open_high else value <= self.high)

    def check(self, name: str, value: Any) -> Any:
        """`value`, or ConfigError where it is not within, naming the setting `name`."""
        if value not in self:
            raise ConfigError(f"{name}: {value} is not allowed; it must be {self}")
        return value

    def __str__(self) -> str:
        if self.high is not None:
            return f"in {'(' if self.open_low else '['}{self.low}, {self.high}{')' if self.open_high else ']'}"
        return f"above {self.low}" if self.open_low else f"{self.low} or more"


NOT_NEGATIVE, POSITIVE, COUNT = Range(0), Range(0, open_low=True), Range(1)
STEPS = Range(1, 2**30 - 1)  # counted in the graph by 32 bits, twice over where something swaps
UNIT, DECAY = Range(0, 1), Range(0, 1, open_high=True)

# Every number of the tree is either here or in ANY_NUMBER; a test holds this to the tree.
RANGES: dict[str, Range] = {
    "seed": Range(0, 2**32 - 1),
    "frames": COUNT,
    "actors": Range(1, MAX_ACTORS),
    "streams": COUNT,
    "unroll": COUNT,
    "window": COUNT,
    "correction": NOT_NEGATIVE,
    "correction_discount": Range(0, 1, open_low=True),
    "network.hidden": COUNT,
    "network.lstm": NOT_NEGATIVE,
    "inner.gamma": UNIT,
    "inner.trace_lambda": UNIT,
    "inner.alpha": UNIT,
    "inner.policy_weight": NOT_NEGATIVE,
    "inner.value_weight": NOT_NEGATIVE,
    "inner.entropy_weight": NOT_NEGATIVE,
    "inner.rho_clip": POSITIVE,
    "inner.reward_clip": NOT_NEGATIVE,
    "inner.surrogate_decay": UNIT,
    "inner.auxiliary_heads": NOT_NEGATIVE,
    "outer.gamma": UNIT,
    "outer.trace_lambda": UNIT,
    "outer.policy_weight": NOT_NEGATIVE,
    "outer.value_weight": NOT_NEGATIVE,
    "outer.entropy_weight": NOT_NEGATIVE,
    "outer.kl_weight": NOT_NEGATIVE,
    "self_tuned.hidden": COUNT,
    "self_tuned.history": COUNT,
    "self_tuned.entropy_bound": NOT_NEGATIVE,
    "intrinsic.weight": NOT_NEGATIVE,
    "intrinsic.reward_weight": NOT_NEGATIVE,
    "bandit.early_updates": NOT_NEGATIVE,
    "lpg.predictions": Range(2),
    "lpg.hidden": COUNT,
    "lpg.embedding": COUNT,
    "lpg.prediction_weight": NOT_NEGATIVE,
    "lpg.prediction_entropy": NOT_NEGATIVE,
    "lpg.direction_penalty": NOT_NEGATIVE,
    "lpg.target_penalty": NOT_NEGATIVE,
    "optimizer.learning_rate": POSITIVE,
    "optimizer.max_grad_norm": NOT_NEGATIVE,
    "optimizer.decay": DECAY,
    "optimizer.b1": DECAY,
    "optimizer.b2": DECAY,
    # At eps 0 the root's derivative is infinite where a gradient coordinate is 0: NaN meta-gradients.
    "optimizer.eps": POSITIVE,
    # 0 holds η at its initial values: the control arm of a self-tuning agent.
    "meta_optimizer.learning_rate": NOT_NEGATIVE,
    "meta_optimizer.b1": DECAY,
    "meta_optimizer.b2": DECAY,
    "meta_optimizer.eps": POSITIVE,
    "meta_optimizer.decay": DECAY,
    "meta_optimizer.max_grad_norm": NOT_NEGATIVE,
    "meta_gradient.trace_decay": UNIT,
    "meta_gradient.standard_deviation": POSITIVE,
    "meta_gradient.pairs": COUNT,
    "meta_gradient.baseline_decay": DECAY,
    "meta_gradient.diagnostics": NOT_NEGATIVE,
    "bootstrap.updates": COUNT,
    "bootstrap.match_policy": NOT_NEGATIVE,
    "bootstrap.match_value": NOT_NEGATIVE,
    "bootstrap.match_parameters": NOT_NEGATIVE,
    "environment.max_episode_frames": Range(4, 2**31 - 1),  # from one agent step to what EnvPool can count
    "environment.threads": NOT_NEGATIVE,
    "environment.catch_runs": STEPS,
    "environment.catch_switch_steps": STEPS._replace(low=0),
    "environment.switch_steps": STEPS,
    "environment.grid_size": Range(2, 32),
    "environment.arms": Range(2),
    "environment.noise": NOT_NEGATIVE,
    "environment.mdp_states": COUNT,
    "environment.mdp_actions": Range(2),
    "environment.mdp_concentration": POSITIVE,
    "environment.mdp_horizon": STEPS,
    "environment.rounds": STEPS,
    "environment.task": Range(0, 2**31 - 1),
    "pool.max_lag": COUNT,
    "pool.start_seconds": POSITIVE,
    "pool.hang_seconds": POSITIVE,
    "pool.max_failures": COUNT,
    "ray.cpus_per_actor": NOT_NEGATIVE,
    "checkpoint.seconds": POSITIVE,
    "checkpoint.keep": COUNT,
    "log.updates": COUNT,
    "log.max_nonfinite": COUNT,
}
ANY_NUMBER = (
    "meta_init.gamma",
    "meta_init.trace_lambda",
    "meta_init.alpha",
    "meta_init.policy_weight",
    "meta_init.value_weight",
    "meta_init.entropy_weight",
    "bandit.early",
    "bandit.late",
)
