"""LOLA-DiCE in the iterated prisoner's dilemma, with each estimate in its meta-gradient sampled, reused or exact.

A player's meta-gradient rests on the opponent's look-ahead update (the composition), on that update's Jacobian in
one's own policy (with the Hessian of the opponent's loss, Liu et al. 2022), and on the outer gradient behind them. The
first two are taken from a batch of new games, from a larger one, from a memory of games of earlier policies, or from
dynamic programming; the last from new games or dynamic programming. Update, losses and adjoint sweep are the learner's
own: what is exact is an agent whose loss is minus the true value. The window is driven here, of the learner's pieces,
and not by `Learner.step`, which differentiates an update where it was made and knows one life: here its Jacobian may
come from elsewhere, and two players, who learn through each other, step at once.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from actors.environments.prisoners_dilemma import OTHER_REWARD, PrisonersDilemma, payoffs
from actors.unroll import start_in_graph, unroll_in_graph
from agents.config import InnerLossConfig, OuterLossConfig
from agents.lola import OTHER_VALUE, lola
from agents.types import Agent, Array, Params, Trajectory
from learner.config import InnerOptimizerConfig, MetaGradientConfig, MetaOptimizerConfig
from learner.inner_update import InnerState, InnerUpdate
from learner.meta_gradients.reverse import ReverseMetaGradient, last_entry
from learner.optimizers import make_inner_optimizer, make_meta_optimizer, of_part
from learner.window import TapeEntry, make_correction
from scripts.studies.tabular import everywhere
from scripts.studies.tabular_exact import values

GAMMA = 0.96
SOURCES = ("new", "more", "memory", "exact")
_TABLE = "everywhere"  # the head that shows exact losses the joint policy in every state


class Arm(NamedTuple):
    """Where a meta-gradient's estimates come from."""

    composition: str  # of `SOURCES`
    hessian: str  # likewise
    exact_outer: bool = False


EXACT = Arm("exact", "exact", True)


class Sizes(NamedTuple):
    """Games, and how they are learned from (Liu et al. 2022: these)."""

    rounds: int = 100
    new: int = 128  # games of each batch, for the look-ahead and behind it
    more: int = 1024  # games of a large batch
    memory: int = 1024  # games kept of all that were played for look-aheads; a multiple of `new`
    inner_rate: float = 0.3
    outer_rate: float = 0.1  # of Adam


class Lola:
    """LOLA-DiCE of one arm; players are told apart by their axis [2] alone, the game being symmetric.

    Values in the losses are true ones, of the joint policy at hand, and those of the last state are what a game that
    was cut off goes on with.
    """

    def __init__(self, sizes: Sizes, arm: Arm):
        self._sizes, self._arm = sizes, arm
        self._environment = PrisonersDilemma(sizes.rounds)
        self._unroll = sizes.rounds + 1  # one whole game, and its reset
        # With games of the policy itself its ratios are 1: DiCE.
        inner = InnerLossConfig(
            gamma=GAMMA,
            value_weight=0.0,
            entropy_weight=0.0,
            reward_clip=0.0,
            reduction="mean",
            surrogate="off_policy_dice",
            discount_states=True,
        )
        outer = OuterLossConfig(gamma=GAMMA, value_weight=0.0, entropy_weight=0.0, kl_weight=0.0)
        self._agent = lola(self._environment.spec, inner, outer, OTHER_REWARD)
        # Losses are means over the steps of an unroll, returns are sums.
        rate = sizes.inner_rate * self._unroll
        optimizer = InnerOptimizerConfig(name="sgd", learning_rate=rate, anneal=False, max_grad_norm=0.0)
        look_ahead = of_part(make_inner_optimizer(optimizer, 1.0), "other")
        self._updated = InnerUpdate(self._agent_that_knows(arm.composition == "exact", arm.exact_outer), look_ahead)
        known = self._agent_that_knows(arm.hessian == "exact", arm.exact_outer)
        self._differentiated = InnerUpdate(known, look_ahead)
        correction = make_correction(0.0, 1.0, MetaGradientConfig(), (0,), sizes.new)
        self._sweep = ReverseMetaGradient(self._differentiated, "next", 1, correction, keep=False)
        self._meta_optimizer = make_meta_optimizer(
            MetaOptimizerConfig(name="adam", learning_rate=sizes.outer_rate, eps=1e-8), total_steps=0
        )

    def play(self, params: Params, key: Array, games: int, version: int = 0) -> Trajectory:
        """New games of two policies {"own": [5], "other": [5]}."""
        start = start_in_graph(self._agent, self._environment, jnp.zeros((games, 2), jnp.uint32))
        return unroll_in_graph(self._agent, self._environment, self._unroll, params, jnp.int32(version), start, key)[0]

    def look_ahead(self, params: Params, data: Trajectory, other_data: Trajectory) -> tuple[TapeEntry, InnerState]:
        """The opponent's update from `data`, on the tape with `other_data` for its Jacobian, and θ behind it."""
        before, zero = InnerState(params, {}), jnp.zeros((), jnp.int32)
        after, grads, _ = self._updated({}, before, data, zero)
        streams = self._agent.stream_return(other_data)
        return TapeEntry(before, grads, None, other_data, zero, jnp.ones((), bool), streams, 0.0, None), after

    def meta_gradient(self, entry: TapeEntry, after: InnerState, outer_data: Trajectory) -> Array:
        """[5] of one's own return behind the look-ahead, in one's own policy: to be ascended."""
        last = last_entry(outer_data, jnp.int32(1), self._agent.stream_return(outer_data), 0.0)
        found, _, _ = self._sweep({"params": entry.state.params}, [entry], after, last, apart=False)
        return -self._unroll * found.gradient["params"]["own"]

    def estimate(self, params: Params, memory: Trajectory, key: Array, count: Array) -> tuple[Array, Trajectory]:
        """A meta-gradient [5] of the player "own", and the memory with the games played for the look-ahead."""
        sizes, arm = self._sizes, self._arm
        inner_key, outer_key = jax.random.split(key)
        games = self.play(params, inner_key, sizes.more if "more" in arm else sizes.new)
        new = jax.tree.map(lambda x: x[..., : sizes.new] if x.ndim == 1 else x[:, : sizes.new], games)
        if "memory" in arm:
            memory = _replace(memory, new, count * sizes.new % sizes.memory)
        sources = {"new": new, "more": games, "memory": memory, "exact": new}
        entry, after = self.look_ahead(params, sources[arm.composition], sources[arm.hessian])
        return self.meta_gradient(entry, after, self.play(after.params, outer_key, sizes.new, 1)), memory

    def begin(self, key: Array) -> Any:
        """What `learn` carries: both players' policies [2, 5], their optimiser, each one's memory, updates made."""
        policies = jnp.zeros((2, 5))
        memory = None
        if "memory" in self._arm:
            keys = jax.random.split(key, 2)
            memory = jax.vmap(lambda p, k: self.play(p, k, self._sizes.memory))(_as_each(policies), keys)
        return policies, self._meta_optimizer.init(policies), memory, jnp.int32(0)

    def learn(self, carry: Any, key: Array, guided: Array, updates: int) -> tuple[Any, tuple[Array, Array]]:
        """So many updates of both players at once.

        Args:
          carry: from `begin`, or from here.
          key: of this life.
          guided: whether policies move by the exact meta-gradient (whatever is estimated on the way).

        Returns:
          The new carry; the mean reward a round of the two, (1 - γ) times their true values before the update
          [updates]; and Pearson's correlation of the estimate's coordinates with the exact one's, mean of the two.
        """

        def update(carry, _):
            policies, optimizer, memory, count = carry
            each, keys = _as_each(policies), jax.random.split(jax.random.fold_in(key, count), 2)
            found, memory = jax.vmap(self.estimate, in_axes=(0, 0, 0, None))(each, memory, keys, count)
            # Unclipped ratios of whole games can overflow: such an estimate counts as 0.
            found = jnp.where(jnp.isfinite(found).all(axis=-1, keepdims=True), found, 0.0)
            true = jax.vmap(self.exact_meta_gradient)(each)
            steps, optimizer = self._meta_optimizer.update(-jnp.where(guided, true, found), optimizer)
            reward = (1 - GAMMA) * jnp.mean(self.values({"own": policies[0], "other": policies[1]}))
            carry = optax.apply_updates(policies, steps), optimizer, memory, count + 1
            return carry, (reward, jnp.mean(jax.vmap(_correlation)(found, true)))

        return jax.lax.scan(update, carry, length=updates)

    def exact_meta_gradient(self, params: Params) -> Array:
        """[5] of the player "own", by autodiff through true values alone: the yardstick."""

        def behind_look_ahead(own: Array) -> Array:
            of_other = jax.grad(lambda other: self.values({"own": own, "other": other})[1])(params["other"])
            return self.values({"own": own, "other": params["other"] + self._sizes.inner_rate * of_other})[0]

        return jax.grad(behind_look_ahead)(params["own"])

    def values(self, params: Params) -> Array:
        """[2] true discounted returns of the players "own" and "other", without a horizon."""
        table = self._table(params)
        return jnp.stack([values(game, table, GAMMA)[0] for game in payoffs()])

    def _table(self, params: Params) -> Array:
        """[5, 4] joint logits."""
        return self._agent.unroll(params, everywhere(5, 4)).logits[:-1, 0]

    def _agent_that_knows(self, exact_inner: bool, exact_outer: bool) -> Agent:
        """The agent with true values, and with losses of true values where they are to be exact."""
        agent, scale = self._agent, 1 / self._unroll
        mine, theirs = payoffs()

        def unroll(params, trajectory):
            output, table = agent.unroll(params, trajectory), self._table(params)
            own, other = (trajectory.observation @ values(game, table, GAMMA) for game in (mine, theirs))
            own, other = jax.lax.stop_gradient((own, other))
            return output._replace(value=own, heads={OTHER_VALUE: other[..., None], _TABLE: table})

        def exact_loss(game, output, trajectory):
            value = values(game, output.heads[_TABLE], GAMMA)[0]
            return jnp.broadcast_to(-scale * value, trajectory.action.shape[1:]), {}

        def inner_loss(meta, output, trajectory):
            if exact_inner:
                return exact_loss(theirs, output, trajectory)
            return agent.inner_loss(meta, output, trajectory)

        def outer_loss(output, trajectory, anchor_logits):
            if exact_outer:
                return exact_loss(mine, output, trajectory)
            return agent.outer_loss(output, trajectory, anchor_logits)

        return agent._replace(unroll=unroll, inner_loss=inner_loss, outer_loss=outer_loss)


def _as_each(policies: Array) -> Params:
    """Policies [2, 5] of the two -> what each of them calls its own and the other's, [2, 5] each."""
    return {"own": policies, "other": policies[::-1]}


def _replace(memory: Trajectory, new: Trajectory, at: Array) -> Trajectory:
    """The memory with new games in the place of the oldest."""
    return jax.tree.map(
        lambda old, x: jax.lax.dynamic_update_slice_in_dim(old, x, at, axis=0 if x.ndim == 1 else 1), memory, new
    )


def _correlation(estimate: Array, exact: Array) -> Array:
    """Pearson's; 0 where one of them is constant."""
    centred, target = estimate - estimate.mean(), exact - exact.mean()
    norms = jnp.linalg.norm(centred) * jnp.linalg.norm(target)
    return jnp.where(norms > 0, centred @ target / jnp.where(norms > 0, norms, 1.0), 0.0)
