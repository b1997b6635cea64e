"""LOLA-DiCE's meta-gradient in expectation, through the learner's own update and sweep, over every game of two rounds.

Two games for the look-ahead and any game behind it. What each estimate stands for is written out from the definitions:
scores of both players, ratios to the policies that acted, and dynamic programming for the outer gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actors.environments.prisoners_dilemma import OTHER_REWARD, OWN_REWARD, payoffs
from agents.types import FIRST, LAST, MID, Trajectory
from scripts.studies.lola import EXACT, GAMMA, Arm, Lola, Sizes
from scripts.studies.tabular_exact import episode_values, values

ROUNDS, RATE = 2, 1.5  # the look-ahead is large
SIZES = Sizes(rounds=ROUNDS, new=2, memory=2, inner_rate=RATE)
SEEN = np.array([0, 1, 3, 2, 4], np.int32)  # states as the other sees them
ACTIONS = np.indices((4,) * ROUNDS, np.int32).reshape(ROUNDS, -1)  # [T, 16] of all games
STATES = np.concatenate([np.zeros((1, 16), np.int32), 1 + ACTIONS])
PARAMS = {"own": np.array([0.4, -0.3, 0.8, 0.1, -0.6]), "other": np.array([-0.2, 0.7, -0.5, 0.3, 0.2])}
EARLIER = {"own": np.array([0.1, 0.2, 0.3, -0.2, 0.1]), "other": np.array([0.3, 0.1, -0.1, 0.2, -0.4])}
ARMS = [Arm(*sources) for sources in (("new", "new"), ("exact", "new"), ("new", "exact"), ("memory", "memory"))]


def defects(logits):
    return 1 / (1 + jnp.exp(-logits))


def joint(params):
    """[5, 4] log-probabilities of joint actions."""
    own, other = defects(params["own"]), defects(params["other"])[SEEN]
    own, other = (jnp.stack([p, 1 - p], axis=1) for p in (own, other))
    return jnp.log(own[:, :, None] * other[:, None]).reshape(5, 4)


def probability(params):
    """[16] of every game."""
    return jnp.exp(joint(params)[STATES[:-1], ACTIONS].sum(axis=0))


def parts(params, sampler):
    """Of every game of `sampler`: what it adds to the look-ahead [16, 5], and the derivative of that in one's own
    policy [16, 5 (own), 5 (other)]: from the sum of γ^t r_t Π π/μ, and of γ^t V (1 - π/μ)."""

    def scores(logits, states, actions):  # [T, 16, 5] of log P(action)
        chance = defects(logits)[states]
        return jnp.where(actions == 0, 1 - chance, -chance)[..., None] * np.eye(5)[states]

    own = scores(params["own"], STATES[:-1], ACTIONS // 2)
    other = scores(params["other"], SEEN[STATES[:-1]], ACTIONS % 2)
    ratio = jnp.exp((joint(params) - joint(sampler))[STATES[:-1], ACTIONS])
    so_far, own_past, other_past = jnp.cumprod(ratio, axis=0), jnp.cumsum(own, axis=0), jnp.cumsum(other, axis=0)
    value = values(payoffs()[1], joint(params), GAMMA)[STATES]
    weight = GAMMA ** np.arange(ROUNDS)[:, None]
    ends = np.arange(ROUNDS)[:, None] == ROUNDS - 1
    paid = weight * (OTHER_REWARD[ACTIONS] + ends * GAMMA * value[1:])
    less = weight * value[:-1] * ratio
    added = jnp.einsum("tn,tni->ni", paid * so_far, other_past) - jnp.einsum("tn,tni->ni", less, other)
    cross = jnp.einsum("tn,tni,tnj->nij", paid * so_far, own_past, other_past)
    return added, cross - jnp.einsum("tn,tni,tnj->nij", less, own, other)


def cut_off(game, params, end_at=None):
    """The true return of a game of two rounds, worth the true value of its last state, which is a constant."""
    end = jax.lax.stop_gradient(values(game, joint(end_at or params), GAMMA))
    return episode_values(game, joint(params), GAMMA, ROUNDS, end)[0, 0]


def endless(params):
    return values(payoffs()[1], joint(params), GAMMA)[0]


def expected(arm, params, samplers):
    """[5] over both games of the look-ahead, the first of which `samplers[0]` acted, the second `samplers[1]`."""
    (first, first_cross), (second, second_cross) = (parts(params, sampler) for sampler in samplers)
    added = (first[:, None] + second[None]) / 2
    cross = (first_cross[:, None] + second_cross[None]) / 2
    if arm.composition == "exact":
        added = jnp.broadcast_to(jax.grad(endless)(params)["other"], added.shape)
    if arm.hessian == "exact":
        of_other = jax.jacfwd(lambda own: jax.grad(lambda p: endless(p))({**params, "own": own})["other"])
        cross = jnp.broadcast_to(of_other(params["own"]).T, cross.shape)
    chance = probability(samplers[0])[:, None] * probability(samplers[1])[None]

    def of_pair(added, cross):
        after = {**params, "other": params["other"] + RATE * added}
        outer = jax.grad(lambda p: cut_off(payoffs()[0], p))(after)
        return outer["own"] + RATE * cross @ outer["other"]

    return jnp.einsum("mn,mni->i", chance, jax.vmap(jax.vmap(of_pair))(added, cross))


def games(chosen, tables):
    """[len(chosen)] of the games, each with the joint logits that acted it: with their reset transitions."""
    states = np.concatenate([STATES, np.zeros((1, 16), int)])
    actions = np.concatenate([ACTIONS, np.full((1, 16), 3)])
    step_type = np.broadcast_to(np.array([FIRST, MID, LAST, FIRST])[:, None], (4, len(chosen)))
    here = jnp.asarray(states)[:, chosen]
    return Trajectory(
        observation=jnp.eye(5)[here],
        step_type=step_type,
        action=jnp.asarray(actions)[:, chosen],
        behaviour_logits=jnp.stack([table[here[:-1, i]] for i, table in enumerate(tables)], axis=1),
        reward=jnp.asarray(OWN_REWARD[actions])[:, chosen],
        discount=jnp.ones((3, len(chosen))),
        core_state=(),
        params_version=jnp.zeros(len(chosen), jnp.int32),
    )


def samplers_of(arm):
    return (EARLIER, PARAMS) if "memory" in arm else (PARAMS, PARAMS)


def expected_through_the_learner(arm, players):
    """Σ over the look-ahead's games and the outer one of their probability times the meta-gradient."""
    samplers = samplers_of(arm)

    def of(first, second, last):
        data = games(jnp.array([first, second]), [joint(sampler) for sampler in samplers])
        entry, after = players.look_ahead(PARAMS, data, data)
        table = joint(after.params)
        found = players.meta_gradient(entry, after, games(jnp.array([last]), [table]))
        return probability(after.params)[last] * found

    first, second, last = np.indices((16, 16, 16)).reshape(3, -1)
    found = jax.jit(jax.vmap(of))(first, second, last).reshape(16, 16, 16, 5).sum(axis=2)
    return jnp.einsum("m,n,mni->i", *(probability(sampler) for sampler in samplers), found)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: f"{arm.composition}-{arm.hessian}")
def test_expectation_is_the_closed_form(arm):
    closed = jax.jit(lambda p: expected(arm, p, samplers_of(arm)))(PARAMS)
    np.testing.assert_allclose(expected_through_the_learner(arm, Lola(SIZES, arm)), closed, rtol=1e-9)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("sampler", [PARAMS, EARLIER], ids=["on-policy", "off-policy"])
def test_games_of_any_policy_give_the_true_gradient_and_its_true_derivative(sampler):
    """Unbiased for the exact look-ahead, one's own influence on it included; it is not nothing, and not symmetric."""
    added, cross = jax.jit(parts)(PARAMS, sampler)
    chance = probability(sampler)
    theirs = payoffs()[1]

    def gradient(own, other):
        return jax.grad(lambda x: cut_off(theirs, {"own": own, "other": x}, PARAMS))(other)

    np.testing.assert_allclose(chance @ added, jax.jit(gradient)(PARAMS["own"], PARAMS["other"]), rtol=1e-9, atol=1e-14)
    truth = jax.jit(jax.jacfwd(gradient))(PARAMS["own"], PARAMS["other"]).T
    np.testing.assert_allclose(jnp.einsum("n,nij->ij", chance, cross), truth, rtol=1e-9, atol=1e-14)
    assert np.abs(truth).max() > 0.02


@pytest.mark.usefixtures("float64")
def test_all_exact_through_the_sweep_is_autodiff_through_values():
    players = Lola(SIZES, EXACT)
    data = games(jnp.array([3, 9]), [joint(PARAMS)] * 2)
    found = jax.jit(lambda p: players.meta_gradient(*players.look_ahead(p, data, data), data))(PARAMS)
    np.testing.assert_allclose(found, jax.jit(players.exact_meta_gradient)(PARAMS), rtol=1e-9)
    moved = {s: {**PARAMS, "own": PARAMS["own"] + s * 1e-5 * np.eye(5)[1]} for s in (1, -1)}

    @jax.jit
    def own_return(params):
        other = params["other"] + RATE * jax.grad(endless)(params)["other"]
        return values(payoffs()[0], joint({**params, "other": other}), GAMMA)[0]

    np.testing.assert_allclose(found[1], (own_return(moved[1]) - own_return(moved[-1])) / 2e-5, rtol=1e-7)
    alone = jax.jit(jax.grad(lambda p: values(payoffs()[0], joint(p), GAMMA)[0]))(PARAMS)["own"]
    assert np.linalg.norm(found - alone) > 0.1 * np.linalg.norm(alone)  # who does not look ahead goes elsewhere


@pytest.mark.slow
@pytest.mark.parametrize("arm", [ARMS[0], ARMS[3]], ids=["on-policy", "off-policy"])
def test_means_of_samples_agree(arm):
    """100,000 meta-gradients of games played in the environment; off-policy one game of two is an earlier policy's."""
    sizes = SIZES._replace(new=1 if "memory" in arm else 2)
    players = Lola(sizes, arm)
    params, earlier = (jax.tree.map(jnp.float32, p) for p in (PARAMS, EARLIER))

    def one(key):
        old_key, key = jax.random.split(key)
        memory = players.play(earlier, old_key, sizes.memory) if "memory" in arm else None
        return players.estimate(params, memory, key, jnp.int32(1))[0]

    keys = jax.random.split(jax.random.key(5), (10, 10_000))
    found = np.asarray(jax.jit(lambda k: jax.lax.map(jax.vmap(one), k))(keys), np.float64).reshape(-1, 5)
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    closed, unaware = jax.jit(lambda p: [expected(a, p, samplers_of(arm)) for a in (arm, Arm("exact", "exact"))])(
        PARAMS
    )
    z = np.abs(found.mean(axis=0) - closed) / error
    assert z.max() < 4  # of 10 numbers
    assert np.max(np.abs(found.mean(axis=0) - unaware) / error) > 8  # and would have told them apart
