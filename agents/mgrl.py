"""MGRL (Xu, van Hasselt and Silver 2018): the discount γ and the trace λ are self-tuned."""

from agents.config import MetaInitConfig, OuterLossConfig
from agents.meta_params import MetaParameter


def self_tuned(outer: OuterLossConfig, start: MetaInitConfig) -> tuple[MetaParameter, ...]:
    del outer
    return (
        MetaParameter("gamma", bound=1.0, raw_init=start.gamma),
        MetaParameter("trace_lambda", bound=1.0, raw_init=start.trace_lambda),
    )
