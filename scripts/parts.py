"""The parts of an experiment, made from its settings: agent, actors, learner."""

import functools
import os
from typing import Any

from agents.config import AgentSettings
from configs.experiment import ExperimentConfig, agent_settings

KEPT_SHARE = 1 / 4  # of the free memory, what linearisations may take
# On a CPU, what those of several updates may take: the first touch of more memory takes longer than they save.
KEPT_BYTES_ON_CPU = 0.5e9


def make_agent_from(config: ExperimentConfig) -> functools.partial:
    """(spec) -> agent; can be sent to another process. Make it once: its agents' functions are jax's cache keys."""
    return functools.partial(_agent, config.agent, agent_settings(config))


def _agent(name: str, settings: AgentSettings, spec: Any) -> Any:
    from agents.make import make_agent

    return make_agent(name, spec, settings)


def make_learner(config: ExperimentConfig, spec: Any, *, keep: bool = False, **where: Any) -> Any:
    """The learner of an experiment, on every local device if `where` (see `Learner`) does not say otherwise.

    `keep`: whether the window's tape keeps linearisations, see `make_fitting_learner`.
    """
    from learner.learner import Learner
    from learner.mesh import Mesh

    lags = tuple(range(config.pool.max_lag + 1)) if config.lag == "free" else (int(config.lag),)
    return Learner(
        make_agent_from(config)(spec),
        window=config.window,
        correction=config.correction,
        correction_discount=config.correction_discount,
        lags=lags,
        total_updates=config.frames / (config.streams * config.unroll * spec.frames_per_step),
        unroll=config.unroll,
        streams=config.streams,
        optimizer=config.optimizer,
        meta_optimizer=config.meta_optimizer,
        meta_gradient=config.meta_gradient,
        bootstrap=config.bootstrap,
        keep=keep,
        **{"mesh": Mesh()} | where,
    )


def make_fitting_learner(config: ExperimentConfig, spec: Any) -> tuple[Any, str]:
    """`make_learner` that keeps linearisations where it is told to or has room for them.

    Also returns a line that says which it does; "" where there is nothing to say.
    """
    import jax

    from actors.unroll import trajectory_shapes
    from learner.mesh import free_bytes

    learner = make_learner(config, spec, keep=True)
    size = learner.kept_bytes(trajectory_shapes(learner.agent, spec, config.unroll, config.streams))
    if not size:
        return learner, ""
    size, free, wanted = size / jax.local_device_count(), free_bytes(), config.meta_gradient.linearization
    room = KEPT_SHARE * free
    if jax.default_backend() == "cpu" and config.window > 1:
        room = min(room, KEPT_BYTES_ON_CPU)
    keep = wanted == "keep" or (wanted == "auto" and size < room)
    what = "keeps" if keep else "rebuilds"
    said = f"the sweep {what} linearisations: {size / 1e9:.2f} GB a window, {free / 1e9:.1f} GB are free"
    return learner if keep else make_learner(config, spec), said


def make_actor_from(config: ExperimentConfig) -> functools.partial:
    """(actor_index, incarnation) -> actor; can be sent to another process."""
    from actors.actor import make_actor

    cores = len(os.sched_getaffinity(0)) if config.runtime == "collapsed" else int(max(1, config.ray.cpus_per_actor))
    share = max(1, cores // config.actors) if config.runtime == "collapsed" else cores
    return functools.partial(
        make_actor,
        game=config.game,
        config=config.environment,
        make_agent=make_agent_from(config),
        seed=config.seed,
        num_streams=config.streams // config.actors,
        unroll_length=config.unroll,
        threads=config.environment.threads or share,
    )
