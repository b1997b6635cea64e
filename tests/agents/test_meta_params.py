"""Names, bounds and starting values of the self-tuned parameters, as the papers and the presets give them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.config import SelfTunedConfig
from agents.make import make_agent
from agents.meta_params import MetaParameter, MetaParameters
from agents.returns import leaky_vtrace
from agents.types import EnvironmentSpec, NetworkOutput
from configs.experiment import agent_settings
from configs.presets import preset
from configs.tree import override

SPEC = EnvironmentSpec("pixels", (4, 84, 84), np.uint8, num_actions=6, frame_stack=4, frames_per_step=4)
START = 1 / (1 + math.exp(-4.6))  # 0.99


def agent_of(name, settings=None):
    config = override(preset(name), settings or {})
    return make_agent(config.agent, SPEC, agent_settings(config))


@pytest.mark.parametrize(
    "name, bounds",
    [
        ("atari_impala", {}),
        ("atari_mgrl", {"gamma": 1.0, "trace_lambda": 1.0}),
        (
            "atari_stacx",  # the same for each of three heads
            {
                f"{name}{head}": bound
                for head in ("", "_1", "_2")
                for name, bound in (
                    ("gamma", 1.0),
                    ("trace_lambda", 1.0),
                    ("alpha", 1.0),
                    ("policy_weight", 1.0),
                    ("value_weight", 0.25),
                    ("entropy_weight", 0.01),
                )
            },
        ),
        (
            "atari_stac",  # Zahavy et al. 2020: each weight is bounded by its outer one
            {
                "gamma": 1.0,
                "trace_lambda": 1.0,
                "alpha": 1.0,
                "policy_weight": 1.0,
                "value_weight": 0.25,
                "entropy_weight": 0.01,
            },
        ),
    ],
)
def test_presets_start_where_the_papers_do(name, bounds):
    agent = agent_of(name)
    raw = agent.init_meta(jax.random.key(1))
    assert raw.keys() == bounds.keys()
    assert all(value.shape == () and float(value) == np.float32(4.6) for value in raw.values())
    values = agent.meta_values(raw)
    for parameter, bound in bounds.items():
        np.testing.assert_allclose(values[parameter], START * bound, rtol=1e-6)
        ends = [agent.meta_values(raw | {parameter: jnp.asarray(x)})[parameter] for x in (-30.0, 0.0, 30.0)]
        np.testing.assert_allclose(ends, [0.0, bound / 2, bound], atol=1e-6)


def test_lambda_of_a_state_decides_whether_to_bootstrap_there():
    """G_t = r + γ ((1 - λ(s_(t+1))) V(s_(t+1)) + λ(s_(t+1)) G_(t+1)): 0 at s_1 alone cuts G_0, and nothing else."""
    value, of_state, gamma, reward = np.array([0.0, 10.0, 100.0, 1000.0]), np.array([1.0, 0.0, 1.0, 1.0]), 0.9, 1.0
    returns = [value[-1]]
    for t in (2, 1, 0):
        ahead = (1 - of_state[t + 1]) * value[t + 1] + of_state[t + 1] * returns[0]
        returns.insert(0, reward + gamma * ahead)
    np.testing.assert_allclose(returns[:3], [10.0, 1 + 0.9 * 901, 901.0])
    tuned = MetaParameters([MetaParameter("trace_lambda", 1.0, 0.0)], SelfTunedConfig(form="state", hidden=()), 1)
    raw = jax.tree.map(lambda x: jnp.full_like(x, 80.0 if x.ndim > 1 else -40.0), tuned.init(jax.random.key(0)))
    output = NetworkOutput(None, value[:, None], features=of_state[:, None, None])
    lambdas = tuned.values(raw, output, None)["trace_lambda"]
    ones = np.ones((3, 1), np.float32)
    found = leaky_vtrace(
        value[:, None].astype(np.float32),
        reward * ones,
        gamma * ones,
        ones,
        trace_lambda=lambdas,
        alpha=1.0,
        rho_clip=1.0,
    )
    np.testing.assert_allclose(found.value[:, 0], returns[:3], rtol=1e-6)
    np.testing.assert_allclose(found.advantage[:, 0], np.subtract(returns, value)[:3], rtol=1e-6)


def test_only_a_kl_in_the_outer_loss_needs_an_anchor():
    assert agent_of("atari_stac").uses_anchor and not agent_of("atari_mgrl").uses_anchor
    assert not agent_of("catch_lpg").uses_anchor and agent_of("catch_lpg", {"outer.kl_weight": 1.0}).uses_anchor
