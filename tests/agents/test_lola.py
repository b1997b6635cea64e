"""LOLA's two players: one table of joint actions, and each one's own view of the game."""

import jax
import jax.numpy as jnp
import numpy as np

from agents.config import InnerLossConfig, OuterLossConfig
from agents.lola import lola
from agents.types import EnvironmentSpec

SPEC = EnvironmentSpec("game", (5,), np.float32, num_actions=4, frame_stack=1, frames_per_step=1)
AGENT = lola(SPEC, InnerLossConfig(), OuterLossConfig(), np.zeros(4))
SWAPPED = [0, 2, 1, 3]  # joint actions, when players change places


def policy(params):
    """[5, 4]"""
    return jax.nn.softmax(AGENT.step(params, jnp.eye(5), jnp.ones(5), ())[0].logits)


def test_players_act_independently_and_change_places():
    rng = np.random.default_rng(0)
    params = {name: jnp.asarray(rng.normal(size=5), jnp.float32) for name in ("own", "other")}
    joint = np.asarray(policy(params)).reshape(5, 2, 2)
    np.testing.assert_allclose(joint, joint.sum(2)[:, :, None] * joint.sum(1)[:, None], rtol=1e-5)
    np.testing.assert_allclose(joint.sum(2)[:, 0], jax.nn.sigmoid(params["own"]), rtol=1e-5)
    seen_by_other = [0, *(1 + np.array(SWAPPED))]
    np.testing.assert_allclose(joint.sum(1)[:, 0], jax.nn.sigmoid(params["other"])[np.array(seen_by_other)], rtol=1e-5)
    changed = policy({"own": params["other"], "other": params["own"]})
    np.testing.assert_allclose(changed[np.array(seen_by_other)][:, np.array(SWAPPED)], policy(params), rtol=1e-5)
