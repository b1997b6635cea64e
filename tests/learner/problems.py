"""Small problems for the learner's tests: real agents on made-up data, and one agent without stopped gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from agents.config import AgentSettings, InnerLossConfig, MetaInitConfig, NetworkConfig, OuterLossConfig
from agents.losses import stream_score
from agents.make import make_agent
from agents.types import Agent, EnvironmentSpec, NetworkOutput, Params, Trajectory
from learner.config import BootstrapConfig, InnerOptimizerConfig, MetaGradientConfig, MetaOptimizerConfig
from learner.inner_update import InnerUpdate
from learner.learner import Learner
from learner.mesh import Mesh
from learner.optimizers import make_inner_optimizer
from learner.state import LearnerState

SPEC = EnvironmentSpec("toy", (5,), np.float32, num_actions=3, frame_stack=1, frames_per_step=1)
TOTAL_UPDATES = 100.0


def agent(name="stac", lstm=0, hidden=(4,), spec=SPEC, inner=None, outer=None, start=None, **groups) -> Agent:
    settings = AgentSettings(
        network=NetworkConfig("mlp", hidden, lstm),
        inner=inner or InnerLossConfig(),
        outer=outer or OuterLossConfig(),
        # Away from saturation, so that every meta-parameter has a gradient worth comparing.
        meta_init=start or MetaInitConfig(1.0, 0.5, 0.2, 0.3, -0.4, 0.6),
        **groups,
    )
    made = make_agent(name, spec, settings)

    # haiku makes float32 parameters always; the exactness tests want JAX's default float.
    def wide(init):
        return lambda key: jax.tree.map(lambda x: x.astype(float), init(key))

    return made._replace(init=wide(made.init), init_meta=wide(made.init_meta))


def trajectory(agent: Agent, seed: int, version: int, steps=6, streams=3) -> Trajectory:
    """Random experience with a termination, a truncation and their reset transitions inside."""
    rng = np.random.default_rng(seed)
    step_type = np.ones((steps + 1, streams), np.int8)
    discount = np.ones((steps, streams))
    if seed == 0:
        step_type[0] = 0
    step_type[2, 0], step_type[3, 0], discount[1, 0] = 2, 0, 0.0  # terminated
    step_type[4, 1], step_type[5, 1] = 2, 0  # truncated
    core = jax.tree.map(lambda x: rng.normal(size=x.shape), agent.initial_state(streams))
    return Trajectory(
        observation=rng.normal(size=(steps + 1, streams, *SPEC.observation_shape)),
        step_type=step_type,
        action=rng.integers(0, SPEC.num_actions, (steps, streams)).astype(np.int32),
        behaviour_logits=rng.normal(size=(steps, streams, SPEC.num_actions)),
        reward=rng.normal(size=(steps, streams)),
        discount=discount,
        core_state=core,
        params_version=np.full(streams, version, np.int32),
    )


def learner(agent: Agent, window=3, correction=0.0, discount=1.0, lags=(0,), streams=3, unroll=6, **groups) -> Learner:
    """A learner whose inner steps are large enough for second-order terms to matter."""
    return Learner(
        agent,
        window=window,
        correction=correction,
        correction_discount=discount,
        lags=lags,
        total_updates=TOTAL_UPDATES,
        unroll=unroll,
        streams=streams,
        optimizer=groups.get("optimizer", optimizer("sgd")),
        meta_optimizer=groups.get("meta_optimizer", MetaOptimizerConfig()),
        meta_gradient=groups.get("meta_gradient", MetaGradientConfig()),
        bootstrap=groups.get("bootstrap", BootstrapConfig()),
        mesh=groups.get("mesh") or Mesh(jax.local_devices()[:1]),
        keep=groups.get("keep", False),
    )


def start(agent: Agent) -> Params:
    """θ as a learner's life begins: its program draws it, whose float32 another program rounds otherwise."""
    return learner(agent).init(jax.random.key(1)).inner.params


def born(learner: Learner) -> LearnerState:
    """A new life in JAX's default float, where networks are made in float32."""

    def wide(x):
        return x.astype(float) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else x

    return jax.tree.map(wide, learner.init(jax.random.key(0)))


def optimizer(name: str, **settings) -> InnerOptimizerConfig:
    rate = {"sgd": 0.02, "rmsprop": 0.05, "adam": 0.05}[name]
    return InnerOptimizerConfig(**{"name": name, "learning_rate": rate, "eps": 1e-3, "max_grad_norm": 8.0} | settings)


def smooth_agent() -> Agent:
    """No stopped gradients anywhere, so that finite differences of the whole window are its true derivative."""

    def unroll(params, trajectory):
        hidden = jnp.tanh(trajectory.observation @ params["w"] + params["b"])
        return NetworkOutput(hidden, jnp.sum(jnp.square(hidden), axis=-1))

    def inner_loss(meta, output, trajectory):
        fit = jnp.square(output.value[:-1] - meta["scale"] * trajectory.reward)
        return jnp.mean(fit + meta["weight"] * jnp.sum(jnp.cos(output.logits[:-1]), axis=-1), axis=0), {}

    def outer_loss(output, trajectory, anchor_logits):
        del anchor_logits
        return jnp.mean(jnp.square(output.value[1:] - trajectory.reward), axis=0), {}

    def init(key):
        return {"w": 0.5 * jax.random.normal(key, (5, 3)), "b": jnp.zeros(3)}

    return Agent(
        init=init,
        initial_state=lambda batch_size: (),
        step=None,
        unroll=unroll,
        init_meta=lambda key: {"scale": jnp.asarray(0.7), "weight": jnp.asarray(0.3)},
        meta_values=lambda meta: meta,
        inner_loss=inner_loss,
        outer_loss=outer_loss,
        uses_anchor=False,
        stream_score=stream_score,
        stream_return=lambda trajectory, logits=None: jnp.mean(trajectory.reward, axis=0),
    )


def inner_update(agent: Agent, config: InnerOptimizerConfig) -> InnerUpdate:
    return InnerUpdate(agent, make_inner_optimizer(config, TOTAL_UPDATES))
