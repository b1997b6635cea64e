"""IMPALA (Espeholt et al. 2018): V-trace actor-critic with fixed hyperparameters. Nothing is self-tuned."""

from agents.config import MetaInitConfig, OuterLossConfig
from agents.meta_params import MetaParameter


def self_tuned(outer: OuterLossConfig, start: MetaInitConfig) -> tuple[MetaParameter, ...]:
    del outer, start
    return ()
