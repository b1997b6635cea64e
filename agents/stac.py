"""STAC (Zahavy et al. 2020): every differentiable hyperparameter of the loss is self-tuned.

γ, λ and leaky V-trace's α are sigmoids; each loss weight is its outer weight times a sigmoid (their Section 3.1).
"""

from agents.config import MetaInitConfig, OuterLossConfig
from agents.meta_params import MetaParameter


def self_tuned(outer: OuterLossConfig, start: MetaInitConfig) -> tuple[MetaParameter, ...]:
    return (
        MetaParameter("gamma", bound=1.0, raw_init=start.gamma),
        MetaParameter("trace_lambda", bound=1.0, raw_init=start.trace_lambda),
        MetaParameter("alpha", bound=1.0, raw_init=start.alpha),
        MetaParameter("policy_weight", bound=outer.policy_weight, raw_init=start.policy_weight),
        MetaParameter("value_weight", bound=outer.value_weight, raw_init=start.value_weight),
        MetaParameter("entropy_weight", bound=outer.entropy_weight, raw_init=start.entropy_weight),
    )
