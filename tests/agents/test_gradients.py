"""Every agent's gradients, in θ and in η, against finite differences in float64.

Losses hold constants (`stop_gradient`) whose change a finite difference of the plain loss would see. So they are held:
recorded at the point, and given back at the points around it.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.config import (
    AgentSettings,
    InnerLossConfig,
    LPGConfig,
    MetaInitConfig,
    NetworkConfig,
    OuterLossConfig,
    SelfTunedConfig,
)
from agents.make import agent_names, make_agent
from agents.types import EnvironmentSpec, Trajectory
from tests.differences import assert_equals_differences

pytestmark = pytest.mark.usefixtures("float64")

SPEC = EnvironmentSpec("toy", (3,), np.float64, num_actions=3, frame_stack=1, frames_per_step=1)
STEPS, STREAMS = 5, 2
START = MetaInitConfig(1.0, 0.5, 0.2, 0.3, -0.4, 0.6)
CRITIC = OuterLossConfig(separate_critic=True)
AGENTS = {
    "impala": ("impala", {}),
    "mgrl": ("mgrl", {}),
    "stac": ("stac", {}),
    "stac by state": ("stac", {"self_tuned": SelfTunedConfig(form="state", hidden=(3,))}),
    "stac by history": ("stac", {"self_tuned": SelfTunedConfig(form="history", hidden=(3,), history=4)}),
    "some by state": ("stac", {"self_tuned": SelfTunedConfig(("gamma", "alpha"), form="state", hidden=())}),
    "stac, two critics": ("stac", {"outer": CRITIC}),
    "stac, lstm": ("stac", {"network": NetworkConfig("mlp", (4,), lstm=3)}),
    "stacx": ("stacx", {"inner": InnerLossConfig(auxiliary_heads=2)}),
    "stacx by state": (
        "stacx",
        {"inner": InnerLossConfig(auxiliary_heads=1), "self_tuned": SelfTunedConfig(form="state", hidden=(3,))},
    ),
    "stacx by history": (
        "stacx",
        {
            "inner": InnerLossConfig(auxiliary_heads=1),
            "self_tuned": SelfTunedConfig(form="history", hidden=(3,), history=4),
        },
    ),
    "mgrl by history": ("mgrl", {"self_tuned": SelfTunedConfig(form="history", hidden=(3,), history=4)}),
    "lirpg": ("lirpg", {"outer": CRITIC}),
    "lirpg, γ by state": (
        "lirpg",
        {"outer": CRITIC, "self_tuned": SelfTunedConfig(("gamma",), form="state", hidden=(3,))},
    ),
    "lpg": ("lpg", {"lpg": LPGConfig(predictions=4, hidden=3, embedding=2)}),
    "maml": ("maml", {}),
    "bandit": ("bandit", {}),
    "lirpg and gamma": ("lirpg", {"outer": CRITIC, "self_tuned": SelfTunedConfig(("gamma",))}),
}


def test_no_agent_is_left_out():
    assert {agent for agent, _ in AGENTS.values()} == set(agent_names())


class Held:
    """`stop_gradient` that returns, call by call, what it was called with at first, when nothing was compiled."""

    def __init__(self):
        self.values, self.next, self.recording = [], 0, True

    @contextlib.contextmanager
    def __call__(self):
        self.next, original = 0, jax.lax.stop_gradient

        def hold(x):
            if self.recording:
                inside = isinstance(jax.tree.leaves(x)[0], jax.core.Tracer)  # rlax, of what is constant already
                self.values.append(None if inside else jax.tree.map(np.asarray, x))
            self.next += 1
            value = self.values[self.next - 1]
            return original(x) if value is None else jax.tree.map(jnp.asarray, value)

        jax.lax.stop_gradient = hold
        try:
            yield
        finally:
            jax.lax.stop_gradient = original
        assert self.next == len(self.values)
        self.recording = False


def make(name):
    agent, groups = AGENTS[name]
    settings = AgentSettings(**{"network": NetworkConfig("mlp", (4,)), "meta_init": START} | groups)
    return make_agent(agent, SPEC, settings)


def experience(agent):
    rng = np.random.default_rng(0)
    step_type = np.ones((STEPS + 1, STREAMS), np.int8)
    step_type[0], step_type[2, 0], step_type[3, 0] = 0, 2, 0
    context = jax.tree.map(lambda x: rng.normal(size=x.shape), agent.init_context())
    return Trajectory(
        observation=rng.normal(size=(STEPS + 1, STREAMS, 3)),
        step_type=step_type,
        action=rng.integers(0, 3, (STEPS, STREAMS)).astype(np.int32),
        behaviour_logits=rng.normal(size=(STEPS, STREAMS, 3)),
        reward=rng.normal(size=(STEPS, STREAMS)),
        discount=np.ones((STEPS, STREAMS)),
        core_state=jax.tree.map(lambda x: rng.normal(size=x.shape), agent.initial_state(STREAMS)),
        params_version=np.zeros(STREAMS, np.int32),
        context=context,
    )


def shaken(tree):
    """Away from zero weights, whose gradients may be zero for a moment."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(x + 0.3 * rng.normal(size=x.shape), float), tree)


FORMS = {"stac by history", "some by state", "stacx by state", "lirpg and gamma"}  # what is in η is theirs alone


@pytest.mark.parametrize("name", [name for name in AGENTS if name not in FORMS])
def test_inner_gradient_of_every_leaf(name):
    agent = make(name)
    meta, params = shaken(agent.init_meta(jax.random.key(0))), shaken(agent.init(jax.random.key(1)))
    trajectory, held = experience(agent), Held()

    def loss(params):
        return jnp.mean(agent.inner_loss(meta, agent.unroll(params, trajectory), trajectory)[0])

    def held_loss(params):
        with held():
            return loss(params)

    held_loss(params)  # records
    assert name == "bandit" or any(value is not None for value in held.values)
    assert_equals_differences(jax.jit(held_loss), params, jax.jit(jax.grad(loss))(params))


# IMPALA tunes nothing; MAML's η is where θ begins, and the bandit reads one rate at a time: learner/test_reverse.py.
@pytest.mark.parametrize("name", [name for name in AGENTS if name not in ("impala", "maml", "bandit")])
def test_meta_gradient_of_every_leaf(name):
    """η changes the inner gradient g; what is differenced is g along a fixed direction in θ."""
    agent = make(name)
    meta, params = shaken(agent.init_meta(jax.random.key(0))), shaken(agent.init(jax.random.key(1)))
    trajectory = experience(agent)
    rng = np.random.default_rng(3)
    along = jax.tree.map(lambda x: rng.normal(size=x.shape), params)

    @jax.jit
    def inner_gradient(meta):
        def loss(params):
            return jnp.mean(agent.inner_loss(meta, agent.unroll(params, trajectory), trajectory)[0])

        return jax.jvp(loss, (params,), (along,))[1]

    assert_equals_differences(inner_gradient, meta, jax.jit(jax.grad(inner_gradient))(meta))


def test_what_a_rule_is_charged_for_is_that_of_differences():
    agent = make("lpg")
    meta, params = shaken(agent.init_meta(jax.random.key(0))), shaken(agent.init(jax.random.key(1)))
    trajectory = experience(agent)

    @jax.jit
    def charge(meta):
        return 1e3 * jnp.mean(agent.meta_penalty(meta, agent.unroll(params, trajectory), trajectory))

    assert_equals_differences(charge, meta, jax.jit(jax.grad(charge))(meta))
    free = LPGConfig(direction_penalty=0.0, target_penalty=0.0)
    assert make_agent("lpg", SPEC, AgentSettings(network=NetworkConfig("mlp", (4,)), lpg=free)).meta_penalty is None


@pytest.mark.parametrize("name", ["mgrl", "stac", "stac, two critics", "stacx", "lirpg", "lpg", "maml", "bandit"])
def test_outer_gradient_is_that_of_differences_and_only_of_what_it_scores(name):
    agent = make(name)
    params, trajectory, held = shaken(agent.init(jax.random.key(1))), experience(agent), Held()
    anchor = np.random.default_rng(4).normal(size=(STEPS + 1, STREAMS, 3))

    def loss(params):
        return jnp.mean(agent.outer_loss(agent.unroll(params, trajectory), trajectory, anchor)[0])

    def held_loss(params):
        with held():
            return loss(params)

    held_loss(params)
    gradient = jax.jit(jax.grad(loss))(params)
    inner_only = {"value"} if "outer_value" in params else {"auxiliary_policy", "auxiliary_value"} & params.keys()
    for module in inner_only:
        assert not any(np.any(leaf) for leaf in gradient.pop(module).values())
    rest = {module: leaves for module, leaves in params.items() if module not in inner_only}
    fixed = {module: params[module] for module in inner_only}
    assert_equals_differences(jax.jit(lambda some: held_loss(some | fixed)), rest, gradient)
