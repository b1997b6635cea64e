"""Agents by name: the only place with names."""

from agents import impala, mgrl, stac
from agents.actor_critic import actor_critic
from agents.config import InnerLossConfig, MetaInitConfig, NetworkConfig, OuterLossConfig
from agents.networks import make_network
from agents.types import Agent, EnvironmentSpec

SELF_TUNED = {"impala": impala.self_tuned, "mgrl": mgrl.self_tuned, "stac": stac.self_tuned}


def make_agent(
    name: str,
    spec: EnvironmentSpec,
    *,
    network: NetworkConfig,
    inner: InnerLossConfig,
    outer: OuterLossConfig,
    meta_init: MetaInitConfig,
) -> Agent:
    """The agent called `name` for environments like `spec`."""
    return actor_critic(make_network(network, spec), inner, outer, SELF_TUNED[name](outer, meta_init))
