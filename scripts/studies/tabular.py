"""Meta-gradients on random tabular MDPs, with each of the three things that they estimate sampled or exact.

A meta-gradient through K inner updates rests on three estimates (Liu et al. 2022): the updates themselves, their
Jacobians, with the Hessian of the inner loss in them, and the outer gradient behind them. Here each is either taken
from samples, as always, or replaced by what dynamic programming says, to see which one costs what. The update, the
losses and the adjoint sweep are the learner's own: what is exact is an agent whose loss is minus the true value. The
window is driven here, of the learner's pieces, and not by `Learner.step`, which differentiates an update where it was
made: here its Jacobian may come from other samples, or be exact beside a sampled update.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from actors.config import EnvironmentConfig
from actors.environments.make import make_jax_environment
from actors.environments.tabular_mdp import MDP
from actors.unroll import unroll_in_graph
from agents.actor_critic import OUTER_CRITIC
from agents.config import InnerLossConfig, IntrinsicConfig, NetworkConfig, OuterLossConfig
from agents.lirpg import intrinsic_reward
from agents.types import MID, Agent, Array, MetaParams, Trajectory
from configs.experiment import ExperimentConfig, agent_settings
from configs.presets import preset
from learner.config import InnerOptimizerConfig, MetaGradientConfig, MetaOptimizerConfig
from learner.inner_update import InnerState, InnerUpdate
from learner.meta_gradients.reverse import ReverseMetaGradient, last_entry
from learner.optimizers import make_inner_optimizer
from learner.window import TapeEntry, make_correction
from scripts.parts import make_agent_from
from scripts.studies.tabular_exact import episode_values, expected_surrogate, values

_TABLE = "everywhere"  # the head that shows exact losses the policy in every state
_ERROR_NOISE = 0.3  # standard deviation of a Hessian's error (Liu et al.)


def tabular(agent: str) -> ExperimentConfig:
    """MAML or LIRPG on the random MDPs of Liu et al. 2022, from a uniform policy, with every loss a policy gradient of
    the discounted return alone: one update of rate 10 from 32 episodes. Losses are means over the steps of an unroll,
    hence the rate's factor.
    """
    lirpg = agent == "lirpg"
    base = preset("smoke")
    horizon = base.environment.mdp_horizon
    return dataclasses.replace(
        base,
        agent=agent,
        game="tabular_mdp",
        streams=32,
        unroll=horizon + 1,  # one whole episode, and its reset
        window=1,
        lag="0",
        correction=0.0,
        network=NetworkConfig(torso="table"),
        # LIRPG's critic is told that its losses matter; here values are exact, and nothing learns them.
        inner=InnerLossConfig(
            gamma=0.8,
            value_weight=0.5 if lirpg else 0.0,
            entropy_weight=0.0,
            reward_clip=0.0,
            reduction="mean",
            discount_states=True,
        ),
        outer=OuterLossConfig(gamma=0.8, value_weight=0.0, entropy_weight=0.0, kl_weight=0.0, separate_critic=lirpg),
        intrinsic=IntrinsicConfig(weight=1.0),
        optimizer=InnerOptimizerConfig(name="sgd", learning_rate=10.0 * (horizon + 1), anneal=False, max_grad_norm=0.0),
        meta_optimizer=MetaOptimizerConfig(name="sgd", learning_rate=0.0),
        meta_gradient=MetaGradientConfig(objective="next", baseline="none", diagnostics=0),
    )


class Exact(NamedTuple):
    """Which of the three estimates are exact, as numbers: a compiled estimator takes any of the eight combinations."""

    inner: Array | bool = False
    jacobian: Array | bool = False
    outer: Array | bool = False

    @classmethod
    def named(cls, letters: str) -> "Exact":
        """Liu et al.'s code: inner, Hessian, outer, each "e" (exact) or "l" (learned from samples)."""
        return cls(*(letter == "e" for letter in letters))


EXACT = Exact(True, True, True)


class Memory(NamedTuple):
    """Episodes of other policies that an update takes beside its own: for surrogates with importance ratios."""

    episodes: int = 0
    spread: float = 0.0  # each is of a policy of its own, whose logits are off by so many standard normals


NOTHING_REUSED = Memory()


class Estimate(NamedTuple):
    gradient: Array  # [d] of the value behind the last update, in η: to be ascended
    policy: Array  # [S, A] logits after the last update


class Tabular:
    """Meta-gradients of one experiment on `tabular_mdp`.

    Args:
      config: as `tabular` makes it; the learning rate is given with each estimate. A running mean as baseline of the
        sampling correction is taken to have come to the value of the policy that η begins with.
      critic_noise: values in the losses are the true ones, and deviate in each state by so many times their norm over
        the number of states (Liu et al.: 1), drawn for each estimate; None: they are 0.
      endless: exact values have no horizon; else they are those of an episode that is worth 0 where it is cut off.
      independent: Jacobians are taken from other samples than updates, as in the theory; else from the same, as by
        every learner.
      expected: where Jacobians are not exact they are the surrogate's in expectation, those of infinitely many samples.
      memory: episodes that updates and Jacobians reuse; the outer gradient is of new ones alone.
      behind: episodes for the outer gradient; None: as many new ones as for an update.
      draws: whether there are samples; without, where nothing is read from them, programs are half as large to compile.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        *,
        critic_noise: float | None = 1.0,
        endless: bool = True,
        independent: bool = True,
        expected: bool = False,
        memory: Memory = NOTHING_REUSED,
        behind: int | None = None,
        draws: bool = True,
    ):
        self._config = config
        self._environment = make_jax_environment(config.game, config.environment)
        self._agent = make_agent_from(config)(self._environment.spec)
        self._critic_noise = critic_noise
        self._endless = endless
        self._independent = independent
        self._expected = expected
        self._memory = memory
        self._behind = behind or config.streams
        self._draws = draws
        self._correction = make_correction(
            config.correction, config.correction_discount, config.meta_gradient, (0,), config.streams * config.unroll
        )
        self.many = jax.jit(self._many)
        self._draw = jax.jit(self._drawn, static_argnames="streams")  # traced once, though drawn 2K + 1 times

    def tasks(self, count: int) -> MDP:
        """The first `count` MDPs of the family, [count, ...]."""
        return _tasks(self._config.game, self._config.environment, count)

    def _many(self, mdps: MDP, keys: Array, exact: Exact, rate: Array, error: Array | None = None) -> Estimate:
        """Estimates [MDPs, keys, ...]: `estimate` for each MDP and each key of samples."""

        def of_task(mdp: MDP) -> Estimate:
            return jax.vmap(lambda key: self.estimate(mdp, key, exact, rate, error))(keys)

        return jax.lax.map(of_task, mdps)

    def estimate(self, mdp: MDP, key: Array, exact: Exact, rate: Array, error: Array | None = None) -> Estimate:
        """One meta-gradient, at η as the agent begins with.

        Args:
          mdp: the task.
          key: of everything that is sampled.
          exact: which estimates are not from samples.
          rate: learning rate of θ, in units of the gradient of the return.
          error: h of an error of the Hessian, in units of the return's: Jacobians are those of an inner loss with
            mean((h + 0.3 ξ) θ²) on top, ξ a standard normal of each coordinate and estimate (Liu et al.); 0: none.
        """
        config, agent = self._config, self._agent
        meta = agent.init_meta(key)
        params = meta["params"] if agent.starts_from_meta else agent.init(key)
        critic_key, key = jax.random.split(key)
        noise = jax.random.normal(critic_key, mdp.reward.shape[:1])
        make = functools.partial(self._agent_that_knows, mdp, meta, noise)
        # Losses are means over the steps of an unroll, returns are sums.
        of_return = dataclasses.replace(config.optimizer, learning_rate=rate * config.unroll)
        optimizer = make_inner_optimizer(of_return, 1.0)
        updated = InnerUpdate(make(exact.inner, exact.outer), optimizer)
        expected = config.inner.surrogate if self._expected else None
        if error is not None:
            noisy = error + _ERROR_NOISE * jax.random.normal(jax.random.fold_in(critic_key, 1), mdp.reward.shape)
            error = jnp.where(error, noisy, 0.0)
        differentiated = InnerUpdate(make(exact.jacobian, exact.outer, expected, error), optimizer)
        state, tape = InnerState(params, optimizer.init(params)), []
        true, baseline = jnp.ones((), bool), jnp.zeros(())
        if config.meta_gradient.baseline == "running_mean":
            baseline = self._value(mdp, params["policy"]["w"]) / config.unroll
        for j in range(config.window):
            data, other = self._gather_two(state.params, mdp, key, j)
            count = jnp.asarray(j, jnp.int32)
            new, grads, _ = updated(meta, state, data, count)
            used = other if self._independent else data
            tape.append(TapeEntry(state, grads, None, used, count, true, agent.stream_return(used), baseline, None))
            state = new
        key = jax.random.fold_in(key, 2 * config.window)
        data = self._draw(state.params, mdp, key, config.window, self._behind)
        behind = differentiated.agent.unroll(state.params, data)
        value = -differentiated.agent.outer_loss(behind, data, None)[0]
        returns = jnp.where(exact.outer, value, agent.stream_return(data))
        last = last_entry(data, jnp.asarray(config.window, jnp.int32), returns, baseline)
        sweep = ReverseMetaGradient(differentiated, "next", config.window, self._correction, keep=False)
        found, _, _ = sweep(meta, tape, state, last, apart=False)
        gradient = found.gradient["params"]["policy"] if agent.starts_from_meta else found.gradient
        return Estimate(-config.unroll * ravel_pytree(gradient)[0], state.params["policy"]["w"])

    def _gather_two(self, params: Any, mdp: MDP, key: Array, version: int) -> tuple[Trajectory, Trajectory]:
        """Independent samples for the update and for its Jacobian, in one piece: a smaller program to compile."""
        keys = jnp.stack([jax.random.fold_in(key, 2 * version + i) for i in range(2)])
        both = jax.vmap(lambda key: self._gather(params, mdp, key, version))(keys)
        data, other = (jax.tree.map(lambda x, i=i: x[i], both) for i in range(2))
        return data, other

    def _gather(self, params: Any, mdp: MDP, key: Array, version: int) -> Trajectory:
        """New episodes, and those of the memory behind them."""
        new, memory = self._draw(params, mdp, key, version, self._config.streams), self._memory
        if not memory.episodes:
            return new

        def remembered(key: Array) -> Trajectory:
            off_key, key = jax.random.split(key)
            policy = params["policy"]
            off = memory.spread * jax.random.normal(off_key, policy["w"].shape)
            return self._draw(params | {"policy": policy | {"w": policy["w"] + off}}, mdp, key, version, streams=1)

        old = jax.vmap(remembered)(jax.random.split(jax.random.fold_in(key, 0), memory.episodes))  # [episodes, ., 1, .]
        versions = jnp.concatenate([new.params_version, old.params_version[:, 0]])
        new, old = (episodes._replace(params_version=()) for episodes in (new, old))
        joined = jax.tree.map(lambda x, y: jnp.concatenate([x, y[:, :, 0].swapaxes(0, 1)], axis=1), new, old)
        return joined._replace(params_version=versions)

    def _drawn(self, params: Any, mdp: MDP, key: Array, version: int, streams: int) -> Trajectory:
        """New episodes from state 0, acted by `params`."""

        def episodes(params: Any, mdp: MDP, key: Array) -> Trajectory:
            streams_key, action_key = jax.random.split(key)
            keys = jax.random.bits(streams_key, (streams, 2), jnp.uint32)
            started = jax.vmap(lambda key: self._environment.start(key, mdp))(keys)
            start = (*started, self._agent.initial_state(streams))
            return unroll_in_graph(
                self._agent, self._environment, self._config.unroll, params, jnp.asarray(version), start, action_key
            )[0]

        if self._draws:
            return episodes(params, mdp, key)
        shapes = jax.eval_shape(episodes, params, mdp, key)
        return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def _agent_that_knows(
        self,
        mdp: MDP,
        now: MetaParams,
        noise: Array,
        exact_inner: Any,
        exact_outer: Any,
        expected: str | None = None,
        error: Array | None = None,
    ) -> Agent:
        """The agent with its values made true ones, and with its losses too where they are to be exact."""
        agent, config = self._agent, self._config
        gamma, horizon = config.inner.gamma, config.environment.mdp_horizon
        scale = 1 / config.unroll

        def critic(task: MDP, table: Array) -> Array:
            if self._critic_noise is None:
                return jnp.zeros(table.shape[0])
            true = values(task, table, gamma)
            return jax.lax.stop_gradient(true + self._critic_noise * jnp.linalg.norm(true) / len(true) * noise)

        def unroll(params, trajectory):
            output = agent.unroll(params, trajectory)
            table = agent.unroll(params, everywhere(*mdp.reward.shape)).logits[:-1, 0]
            own = trajectory.observation @ critic(self._with_own_reward(mdp, now), table)
            heads = dict(output.heads or {}) | {_TABLE: table}
            heads |= {OUTER_CRITIC: (trajectory.observation @ critic(mdp, table))[..., None]}
            return output._replace(value=own, heads=heads)

        def inner_loss(meta, output, trajectory):
            loss, logs = agent.inner_loss(meta, output, trajectory)
            task, table = self._with_own_reward(mdp, meta), output.heads[_TABLE]
            if expected:
                known = critic(task, table)
                mean = expected_surrogate(expected, task, table, gamma, horizon, baseline=known, end=known)
                loss = jnp.broadcast_to(-scale * mean, loss.shape)
            loss = jnp.where(exact_inner, -scale * self._value(task, table), loss)
            if error is not None:
                loss += scale * jnp.mean(error * table**2)
            return loss, logs

        def outer_loss(output, trajectory, anchor_logits):
            loss, logs = agent.outer_loss(output, trajectory, anchor_logits)
            return jnp.where(exact_outer, -scale * self._value(mdp, output.heads[_TABLE]), loss), logs

        return agent._replace(unroll=unroll, inner_loss=inner_loss, outer_loss=outer_loss)

    def _value(self, mdp: MDP, table: Array) -> Array:
        """The true return of a policy."""
        config = self._config
        if self._endless:
            return values(mdp, table, config.inner.gamma)[0]
        return episode_values(mdp, table, config.inner.gamma, config.environment.mdp_horizon)[0, 0]

    def _with_own_reward(self, mdp: MDP, meta: MetaParams) -> MDP:
        """The MDP with the rewards that the inner loss learns from."""
        if self._config.agent != "lirpg":
            return mdp
        learned = intrinsic_reward(self._environment.spec, agent_settings(self._config))
        own = learned.reward(meta, everywhere(*mdp.reward.shape))
        return mdp._replace(reward=learned.game_weight * mdp.reward + own)


@functools.cache
def _tasks(game: str, environment: EnvironmentConfig, count: int) -> MDP:
    keys = jnp.stack([jax.random.PRNGKey(task) for task in range(count)])
    return jax.jit(jax.vmap(make_jax_environment(game, environment).sample_task))(keys)


def everywhere(states: int, actions: int) -> Trajectory:
    """Every action in every state: a made-up trajectory of S steps of A streams."""
    observation = jnp.concatenate([jnp.eye(states), jnp.eye(1, states)])
    return Trajectory(
        observation=jnp.broadcast_to(observation[:, None], (states + 1, actions, states)),
        step_type=jnp.full((states + 1, actions), MID),
        action=jnp.broadcast_to(jnp.arange(actions), (states, actions)),
        behaviour_logits=None,
        reward=None,
        discount=None,
        core_state=(),
        params_version=None,
    )
