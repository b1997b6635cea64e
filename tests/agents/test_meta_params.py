"""Names, bounds and starting values of the self-tuned parameters, as the papers and the presets give them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.make import make_agent
from agents.types import EnvironmentSpec
from configs.experiment import agent_settings
from configs.presets import preset

SPEC = EnvironmentSpec("pixels", (4, 84, 84), np.uint8, num_actions=6, frame_stack=4, frames_per_step=4)
START = 1 / (1 + math.exp(-4.6))  # 0.99


def agent_of(name):
    config = preset(name)
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


def test_only_a_kl_in_the_outer_loss_needs_an_anchor():
    assert agent_of("atari_stac").uses_anchor and not agent_of("atari_mgrl").uses_anchor
