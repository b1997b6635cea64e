"""Whole lives inside the graph: many seeds of an experiment at once, or many lives that share η.

For environments in pure JAX. A life here is what `onelife train` lives at lag 0 or 1 with one actor: the same agent,
the same learner, the same environment, the same random numbers.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from actors.actor import actor_key
from actors.environments.jax_adapter import stream_keys
from actors.environments.make import make_jax_environment, stream_seeds
from actors.unroll import start_in_graph, unroll_in_graph
from agents.types import Array, MetaParams, Params, real_transitions
from configs.experiment import ExperimentConfig
from configs.tree import ConfigError
from learner.config import BY_COPIES
from learner.inner_update import nonfinite_leaves
from learner.learner import Learner
from learner.mesh import NoMesh
from learner.meta_gradients.base import Estimate
from learner.meta_gradients.evolution import Evolution
from learner.state import LearnerState
from learner.window import outer_weights
from scripts.parts import make_learner

LIVES = "lives"  # the axis of lives, for collectives over them
# Folded into a life's key; the indices of its unrolls are far below.
_TASK, _REBORN, _FIRST, _PERTURBED, _AGE = (2**31 - 1 - i for i in range(5))


class Copies(NamedTuple):
    """Perturbed copies of a life, each at the start of a window: its first batch is not acted yet."""

    lives: "Life"  # [pairs, 2, ...]
    gathered: Array  # [pairs, d] the perturbations that they have lived under, summed


class Life(NamedTuple):
    """One life between two updates."""

    learner: LearnerState
    actor: Any  # environments, their last time steps, and the core state
    stale: Params  # at lag 1 the parameters before the last update; () at lag 0
    key: Array  # the actor's
    correction_scale: Array  # times the experiment's λ
    copies: Copies | tuple[()] = ()  # for differentiation by perturbed copies


class Lives:
    """Lives of one experiment, side by side under `vmap`; over as many of the local devices as share them evenly.

    Where copies of a life tell its meta-gradient (es, pes, finite_differences), they act each window before the life
    itself does, with the life's own random numbers.

    Args:
      config: an experiment on a JAX game, at lag 0 or 1, with one actor.
      shared: all lives have one η, which follows the mean of their meta-gradients; otherwise each has its own.
      own_tasks: each life has a task of its own, on games that have tasks; otherwise that of the settings. None: where
        the game has tasks.
      lifetime: windows after which a life ends and, η apart, a new one begins; 0 for never.
      staggered: the first lives end after 1 ... lifetime windows, drawn for each, so that lives of all ages are there.
      skip: a life's first window begins after a number of updates that is uniform over 0 ... skip, drawn for each life:
        what comes before is constant to the meta-gradient (No DICE's truncation).
      record_gradient: see `learner.learner.Learner`; among the records.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        shared: bool = False,
        own_tasks: bool | None = False,
        lifetime: int = 0,
        skip: int = 0,
        staggered: bool = False,
        record_gradient: bool = False,
    ):
        self._environment = make_jax_environment(config.game, config.environment)
        if self._environment is None or config.lag == "free" or config.actors != 1:
            raise ConfigError(
                f"--game: {config.game} at --lag {config.lag} with --actors {config.actors} cannot live in the graph;"
                " it takes a game in JAX, lag 0 or 1, and one actor"
            )
        has_tasks = getattr(self._environment, "has_tasks", False)
        if own_tasks and not has_tasks:
            raise ConfigError(f"--game: {config.game} has one task only: lives cannot have their own")
        self._config = config
        self._lag = int(config.lag)
        self._own_tasks = has_tasks if own_tasks is None else own_tasks
        self._lifetime = lifetime
        self._skip = skip
        self._staggered = staggered
        self._shared = shared
        share = _mean_over_lives if shared else lambda gradient: gradient
        meta_gradient = config.meta_gradient
        self._learner = make_learner(
            config,
            self._environment.spec,
            mesh=NoMesh(),
            share=share,
            keep=meta_gradient.linearization == "keep",
            record_gradient=record_gradient,
        )
        self._evolution = None
        if meta_gradient.differentiation in BY_COPIES and jax.tree.leaves(self.eta()):
            self._evolution = Evolution(meta_gradient, self._learner.span)
        if self._learner.agent.starts_from_meta:  # a life is a window, and η where it begins
            self._lifetime = 1
        self._start = jax.jit(self._vmap(self._start_one))
        self._windows = jax.jit(self._many_windows, static_argnums=1, donate_argnums=0)
        self._earned = jax.jit(self._vmap(self._earned_one))

    @property
    def learner(self) -> Learner:
        return self._learner

    def eta(self) -> MetaParams:
        """Raw η at birth, of one life (of the first seed, where it is random)."""
        return jax.tree.map(np.asarray, self._learner.agent.init_meta(jax.random.key(0)))

    @property
    def steps_per_window(self) -> int:
        """Agent steps of one life between two steps of η, those on which an episode is reset included."""
        return self._learner.span * self._config.unroll * self._config.streams

    def start(
        self,
        seeds: Sequence[int],
        meta_params: MetaParams | None = None,
        correction_scales: Sequence[float] | None = None,
    ) -> Life:
        """Lives whose first window has begun: [number of seeds] leads every shape.

        `meta_params`: raw η at birth, with a leading [number of seeds]; else the agent's own (if shared, the first's).
        `correction_scales`: times the experiment's λ, of each life; else 1.
        """
        scales = jnp.ones(len(seeds)) if correction_scales is None else jnp.asarray(correction_scales, float)
        return self._start(*self._keys(seeds), scales, meta_params)

    def earned(self, seeds: Sequence[int], meta_params: MetaParams | None = None) -> Array:
        """[lives] Σ_{k ≥ 1} w_k J(θ^k) of each life's first window, in the outer loss's units; arguments as of `start`.

        What the window's meta-gradient stands for. J(θ^k) is what the batch earned that θ^k acted: D^k at lag 0,
        D^(k+1) at lag 1. θ^0 knows nothing of η.
        """
        return self._earned(*self._keys(seeds), meta_params)

    def _keys(self, seeds: Sequence[int]) -> tuple[Array, Array]:
        streams = stream_keys(stream_seeds(seeds, 0, 0, self._config.streams))
        keys = jnp.asarray(seeds, jnp.uint32), jnp.asarray(streams)
        devices = jax.local_devices()
        devices = devices[: math.gcd(len(devices), len(seeds))]
        if len(devices) == 1:
            return keys
        # All else of a life follows its keys.
        return jax.device_put(keys, NamedSharding(Mesh(np.array(devices), LIVES), PartitionSpec(LIVES)))

    def run(self, lives: Life, windows: int) -> tuple[Life, dict[str, Array]]:
        """Lives `windows` windows longer (`lives` is used up), and their records.

        Records are [lives, windows, ...]: "reward" and "entropy" [..., span] of each update's batch, means a real
        step; "meta/…" η after each window, in its own units; "meta_grad/…" as the learner says; "skipped" updates of
        the life so far, for not being finite.
        """
        return self._windows(lives, windows)

    def _vmap(self, function: Callable) -> Callable:
        return jax.vmap(function, axis_name=LIVES)

    def _start_one(self, seed: Array, streams: Array, correction_scale: Array, meta_params: MetaParams | None) -> Life:
        key = jax.random.fold_in(jax.random.key(seed), 0)
        learner = self._learner.init(key)
        if meta_params is not None:
            learner = self._learner.init(key, learner.meta._replace(params=meta_params))
        elif self._shared:
            learner = self._learner.init(key, jax.tree.map(lambda x: jax.lax.all_gather(x, LIVES)[0], learner.meta))
        life = self._be_born(learner, streams, actor_key(seed, 0, 0), correction_scale)
        if not self._staggered:
            return life
        age = jax.random.randint(jax.random.fold_in(life.key, _AGE), (), 0, self._lifetime)
        return life._replace(learner=life.learner._replace(meta_updates=age))

    def _be_born(self, learner: LearnerState, streams: Array, key: Array, correction_scale: Array) -> Life:
        """A life from its first parameters to the first update of its first window."""
        zero = jnp.zeros((), jnp.int32)
        learner = learner._replace(inner_updates=zero, meta_updates=zero)
        task = jax.random.fold_in(key, _TASK) if self._own_tasks else None
        actor = start_in_graph(self._learner.agent, self._environment, streams, task)
        stale = learner.inner.params if self._config.lag == "1" else ()
        life = Life(learner, actor, stale, key, correction_scale)
        if self._skip:
            first = jax.random.randint(jax.random.fold_in(key, _FIRST), (), 0, self._skip + 1)
            life = jax.lax.while_loop(lambda life: life.learner.inner_updates < first, self._skipped, life)
        return self._update(life)[0]._replace(copies=self._copies(life))

    def _earned_one(self, seed: Array, streams: Array, meta_params: MetaParams | None) -> Array:
        life = _with_tape(self._start_one(seed, streams, jnp.ones(()), meta_params), ())
        # The life has used D^0 up: that of θ^0 at lag 0.
        _, metrics = jax.lax.scan(lambda life, _: self._outside(life), life, length=self._learner.span + self._lag)
        weights = outer_weights(self._config.meta_gradient.objective, self._learner.span)[1:]
        return jnp.sum(jnp.asarray(weights, metrics["return"].dtype) * metrics["return"][self._lag :])

    def _skipped(self, life: Life) -> Life:
        """One update that is in no window."""
        return self._outside(life)[0]

    def _outside(self, life: Life) -> tuple[Life, dict[str, Array]]:
        life, metrics = self._update(life)
        return _with_tape(life, ()), metrics

    def _copies(self, life: Life) -> Copies | tuple[()]:
        """New copies of a life that is about to begin a window."""
        if not self._evolution:
            return ()
        life = _with_tape(life, ())._replace(copies=())
        meta_params = life.learner.meta.params
        nothing = jax.tree.map(jnp.zeros_like, self._evolution.perturb(jax.random.key(0), meta_params))
        shape = (len(nothing), 2)
        return Copies(jax.tree.map(lambda x: jnp.broadcast_to(x, shape + jnp.shape(x)), life), nothing)

    def _evolve(self, life: Life) -> tuple[Estimate, Copies]:
        """The window's meta-gradient from copies that act it under perturbed η, and these copies at its end."""
        meta = life.learner.meta
        key = jax.random.fold_in(jax.random.fold_in(life.key, _PERTURBED), life.learner.inner_updates)
        perturbations = self._evolution.perturb(key, meta.params)

        def act(copy: Life, meta_params: MetaParams) -> tuple[Life, Array]:
            copy = copy._replace(learner=copy.learner._replace(meta=meta._replace(params=meta_params)))
            copy, metrics = jax.lax.scan(lambda life, _: self._outside(life), copy, length=self._learner.span)
            # Beyond the window: up to the batch that its last parameters act.
            _, further = jax.lax.scan(lambda life, _: self._outside(life), copy, length=1 + self._lag)
            returns = jnp.append(metrics["return"], further["return"])
            return copy, self._evolution.score(returns[1 + self._lag :])

        perturbed = self._evolution.copies(meta.params, perturbations)
        copies, scores = jax.vmap(jax.vmap(act))(life.copies.lives, perturbed)
        gathered = life.copies.gathered + perturbations
        return self._evolution.estimate(meta.params, gathered, scores), Copies(copies, gathered)

    def _reborn(self, life: Life) -> Life:
        """A new life with the same η; the baseline of the correction knows past lives, which biases nothing."""
        key, params_key, streams_key = jax.random.split(jax.random.fold_in(life.key, _REBORN), 3)
        streams = jax.random.bits(streams_key, (self._config.streams, 2), jnp.uint32)
        learner = self._learner.init(params_key, life.learner.meta)
        learner = learner._replace(baseline=life.learner.baseline)
        return self._be_born(learner, streams, key, life.correction_scale)

    def _update(self, life: Life, estimate: Estimate | None = None) -> tuple[Life, dict[str, Array]]:
        """One batch and what the learner makes of it; `estimate` for its window's end."""
        learner, index = life.learner, life.learner.inner_updates
        late = self._config.lag == "1"
        params, version = (life.stale, jnp.maximum(index - 1, 0)) if late else (learner.inner.params, index)
        trajectory, actor = unroll_in_graph(
            self._learner.agent,
            self._environment,
            self._config.unroll,
            params,
            version,
            life.actor,
            jax.random.fold_in(life.key, index),
        )
        stale = learner.inner.params if late else ()
        learner, metrics = self._learner.step(learner, trajectory, estimate, life.correction_scale)
        real = real_transitions(trajectory.step_type)
        metrics["reward"] = jnp.sum(trajectory.reward * real) / jnp.maximum(jnp.sum(real), 1)
        metrics["return"] = jnp.mean(self._learner.agent.stream_return(trajectory))
        return life._replace(learner=learner, actor=actor, stale=stale), metrics

    def _window(self, life: Life) -> tuple[Life, dict[str, Array]]:
        """The updates from one step of η to the next; a window's first update has happened before it."""
        estimate, copies = self._evolve(life) if self._evolution else (None, ())
        before, metrics = self._open_window(life)
        life, last = self._update(before, estimate)
        metrics.append({key: last[key][None] for key in _OF_UPDATES.values()})
        life = life._replace(copies=copies if copies and self._evolution.persistent else self._copies(before))
        records = {name: jnp.concatenate([m[key] for m in metrics]) for name, key in _OF_UPDATES.items()}
        records |= {name: value for name, value in last.items() if name.startswith(("meta/", "meta_grad/"))}
        records["skipped"] = life.learner.skipped.inner + life.learner.skipped.meta
        if self._lifetime:
            over = life.learner.meta_updates >= self._lifetime
            life = jax.tree.map(lambda new, old: jnp.where(over, new, old), self._reborn(life), life)
        records |= {f"meta/{name}": value for name, value in self._learner.meta_values(life.learner).items()}
        return life, records

    def _open_window(self, life: Life) -> tuple[Life, list[dict[str, Array]]]:
        """The updates of a window from its second to its last but one, and [updates, ...] metrics of parts of them."""

        def update(life: Life) -> tuple[Life, dict[str, Array]]:
            life, metrics = self._update(life)
            return life, {key: metrics[key] for key in _OF_UPDATES.values()}

        count = self._learner.span - 1
        if count < 2 or not self._learner.updates_are_alike:
            every = []
            for _ in range(count):
                life, metrics = update(life)
                every.append({key: value[None] for key, value in metrics.items()})
            return life, every

        def step(life: Life, _: None) -> tuple[Life, tuple]:
            life, metrics = update(life)
            return _with_tape(life, ()), (metrics, life.learner.tape)

        begun = life.learner.tape
        life, (metrics, tape) = jax.lax.scan(step, _with_tape(life, ()), length=count)
        entries = (jax.tree.map(lambda x, i=i: x[i], entry) for i in range(count) for entry in tape)
        return _with_tape(life, (*begun, *entries)), [metrics]

    def _many_windows(self, lives: Life, windows: int) -> tuple[Life, dict[str, Array]]:
        def scan(life: Life) -> tuple[Life, dict[str, Array]]:
            return jax.lax.scan(lambda life, _: self._window(life), life, length=windows)

        return self._vmap(scan)(lives)


def _with_tape(life: Life, tape: tuple) -> Life:
    return life._replace(learner=life.learner._replace(tape=tape))


def _mean_over_lives(gradient: MetaParams) -> MetaParams:
    """Over those lives whose meta-gradient is finite; not finite where none is."""
    finite = ~jnp.any(nonfinite_leaves(gradient))
    count = jax.lax.psum(finite.astype(float), LIVES)
    total = jax.lax.psum(jax.tree.map(lambda x: jnp.where(finite, x, 0.0), gradient), LIVES)
    return jax.tree.map(lambda x: x / count, total)


_OF_UPDATES = {"reward": "reward", "entropy": "loss/entropy"}
