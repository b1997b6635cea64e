"""Inner optimisers against their formulas in numpy; meta-gradients through them where gradients are zero."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learner.config import InnerOptimizerConfig, MetaOptimizerConfig
from learner.optimizers import clip_by_global_norm, make_inner_optimizer, make_meta_optimizer, of_part

pytestmark = pytest.mark.usefixtures("float64")
NAMES = ["sgd", "rmsprop", "adam"]


def config(name, **settings) -> InnerOptimizerConfig:
    base = {
        "learning_rate": 0.3,
        "anneal": False,
        "max_grad_norm": 0.0,
        "decay": 0.8,
        "b1": 0.7,
        "b2": 0.9,
        "eps": 0.02,
    }
    return InnerOptimizerConfig(name=name, **base | settings)


def by_formula(name, params, gradients, rates):
    """Kingma and Ba's Adam and Tieleman and Hinton's RMSProp, both with ε inside the root."""
    nu, mu, out = 0.0, 0.0, []
    for n, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        if name == "sgd":
            step = g
        elif name == "rmsprop":
            nu = 0.8 * nu + 0.2 * g**2
            step = g / np.sqrt(nu + 0.02)
        else:
            mu, nu = 0.7 * mu + 0.3 * g, 0.9 * nu + 0.1 * g**2
            step = mu / (1 - 0.7**n) / np.sqrt(nu / (1 - 0.9**n) + 0.02)
        params = params - rate * step
        out.append(params)
    return out


@pytest.mark.parametrize("anneal", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_updates_follow_the_formula(name, anneal):
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(2, 3)), rng.normal(size=(4, 2, 3))
    rates = [0.3 * max(0.0, 1 - k / 3) if anneal else 0.3 for k in range(4)]
    optimizer = make_inner_optimizer(config(name, anneal=anneal), total_updates=3)
    params, after = {"w": jnp.asarray(start)}, []
    state = optimizer.init(params)
    for k, gradient in enumerate(gradients):
        params, state = optimizer.update({"w": jnp.asarray(gradient)}, state, params, jnp.asarray(k, float))
        after.append(params["w"])
    np.testing.assert_allclose(after, by_formula(name, start, gradients, rates), rtol=1e-12)
    if anneal:  # the life's last update is at count 2; at 3 the rate has reached 0
        assert np.any(after[2] != after[1]) and np.all(after[3] == after[2])


@pytest.mark.parametrize("name", NAMES)
def test_of_part_moves_its_part_as_ever_and_nothing_else(name):
    params = {"own": jnp.array([1.0, 2.0]), "other": jnp.array([3.0, 4.0])}
    optimizer = make_inner_optimizer(config(name), 1.0)
    part = of_part(optimizer, "other")

    def two_updates(optimizer, own):
        new, state = {**params, "own": own}, optimizer.init(params)
        for k in range(2):
            grads = jax.grad(lambda p: jnp.sum(p["own"] * p["other"] ** 2))(new)
            new, state = optimizer.update(grads, state, new, jnp.asarray(k, float))
        return new

    moved = two_updates(part, params["own"])
    np.testing.assert_array_equal(moved["own"], params["own"])
    alone = {"other": params["other"]}
    state = optimizer.init(alone)
    for k in range(2):
        grads = jax.grad(lambda p: jnp.sum(params["own"] * p["other"] ** 2))(alone)
        alone, state = optimizer.update(grads, state, alone, jnp.asarray(k, float))
    np.testing.assert_allclose(moved["other"], alone["other"], rtol=1e-12)
    # What stays where it is still says where the other goes.
    assert np.all(jax.grad(lambda own: jnp.sum(two_updates(part, own)["other"]))(params["own"]) != 0)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_meta_gradient_is_finite_and_right_where_gradients_are_zero(name, second):
    """d θ²/dη through two updates: one coordinate's gradient is 0 both times, the first update's altogether."""
    optimizer = make_inner_optimizer(config(name, differentiate_second_moment=second, max_grad_norm=0.5), 10)
    gradients = [jnp.zeros(3), jnp.array([0.3, 0.0, -0.2])]

    def end(eta):
        params, state = jnp.zeros(3), optimizer.init(jnp.zeros(3))
        for k, gradient in enumerate(gradients):
            params, state = optimizer.update(eta * gradient, state, params, jnp.asarray(k, float))
        return params

    through = jax.jacrev(end)(1.0)
    assert np.all(np.isfinite(through)) and through[1] == 0.0 and np.all(through[jnp.array([0, 2])] != 0)
    difference = (end(1.0 + 1e-6) - end(1.0 - 1e-6)) / 2e-6
    if second or name == "sgd":
        np.testing.assert_allclose(through, difference, rtol=1e-7, atol=1e-9)
    else:  # with the second moment a constant, the update is linear in the gradient
        np.testing.assert_allclose(through, end(1.0), rtol=1e-12)
        assert not np.allclose(through, difference, rtol=1e-3)


def test_clip_bounds_the_norm_and_its_factor_is_a_constant():
    long, short = (
        {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])},
        {"a": jnp.array([0.3, 0.0]), "b": jnp.array([0.4])},
    )
    np.testing.assert_allclose(optax.tree.norm(clip_by_global_norm(long, 2.0)), 2.0, rtol=1e-12)
    np.testing.assert_allclose(clip_by_global_norm(long, 2.0)["b"], 1.6, rtol=1e-12)
    for grads, limit in ((short, 2.0), (long, 0.0)):
        jax.tree.map(np.testing.assert_array_equal, clip_by_global_norm(grads, limit), grads)

    def first(x):
        return clip_by_global_norm({"a": x * long["a"], "b": x * long["b"]}, 2.0)["a"][0]

    np.testing.assert_allclose(jax.grad(first)(1.0), 3.0 * 2.0 / 5.0, rtol=1e-12)  # and not 0, as with optax's clip
    zero = jax.tree.map(jnp.zeros_like, long)
    assert jax.grad(lambda x: clip_by_global_norm(jax.tree.map(lambda z: z * x, zero), 2.0)["b"][0])(1.0) == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_meta_optimizer_is_optax(name):
    settings = {"sgd": {}, "rmsprop": {"decay": 0.7, "eps": 1e-3}, "adam": {"b1": 0.6, "b2": 0.8, "eps": 1e-3}}[name]
    expected = getattr(optax, name)(0.05, **settings)
    made = make_meta_optimizer(MetaOptimizerConfig(name=name, learning_rate=0.05, **settings), 10)
    meta = {"gamma": jnp.asarray(0.3), "alpha": jnp.asarray(-1.0)}
    states = made.init(meta), expected.init(meta)
    for k in range(3):
        gradient = {"gamma": jnp.asarray(0.5 + k), "alpha": jnp.asarray(-0.1)}
        a, made_state = made.update(gradient, states[0], meta)
        b, expected_state = expected.update(gradient, states[1], meta)
        states = made_state, expected_state
        assert a == b and a["gamma"] < 0


def test_meta_gradient_is_clipped_before_its_optimizer():
    made = make_meta_optimizer(MetaOptimizerConfig(name="sgd", learning_rate=0.1, max_grad_norm=0.5), 10)
    gradient = {"gamma": jnp.asarray(3.0), "alpha": jnp.asarray(-4.0)}
    update, _ = made.update(gradient, made.init(gradient), gradient)
    np.testing.assert_allclose([update["gamma"], update["alpha"]], [-0.03, 0.04], rtol=1e-12)


def test_the_rate_of_eta_falls_linearly_to_zero():
    made = make_meta_optimizer(MetaOptimizerConfig(name="sgd", learning_rate=0.1, anneal=True), 4)
    meta, taken = {"a": jnp.zeros(())}, []
    state = made.init(meta)
    for _ in range(6):
        updates, state = made.update({"a": jnp.ones(())}, state, meta)
        taken.append(-updates["a"])
    np.testing.assert_allclose(taken, [0.1, 0.075, 0.05, 0.025, 0.0, 0.0], atol=1e-7)
