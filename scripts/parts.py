"""The parts of an experiment, made from its settings: agent, actors, learner."""

import functools
import math
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
        total_updates=_updates(config, spec),
        unroll=config.unroll,
        streams=config.streams,
        optimizer=config.optimizer,
        meta_optimizer=config.meta_optimizer,
        meta_gradient=config.meta_gradient,
        bootstrap=config.bootstrap,
        keep=keep,
        **{"mesh": Mesh()} | where,
    )


def _updates(config: ExperimentConfig, spec: Any) -> float:
    """Inner updates in the whole life; where episodes are reset they are some more."""
    return config.frames / (config.streams * config.unroll * spec.frames_per_step)


def life_too_short(config: ExperimentConfig, spec: Any, learner: Any) -> str:
    """A line that says so where a life ends before its first window does; "" where it does not, or η is empty."""
    import jax

    updates, eta = math.ceil(_updates(config, spec)), jax.eval_shape(learner.agent.init_meta, jax.random.key(0))
    if not jax.tree.leaves(eta) or updates > learner.span:  # a window ends with the batch behind it
        return ""
    window = f"--window {config.window}"
    if learner.span != config.window:
        window = f"K + L - 1 of {window} and --bootstrap.updates {config.bootstrap.updates}"
    life = f"about {updates:,} update{'s' * (updates > 1)}"
    return f"η will not move: the life has {life}, the window {learner.span:,} ({window})"


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
    small_on_cpu = jax.default_backend() == "cpu" and config.window > 1
    room = min(KEPT_SHARE * free, KEPT_BYTES_ON_CPU) if small_on_cpu else KEPT_SHARE * free
    if wanted == "keep" or (wanted == "auto" and size < room):
        return learner, f"the sweep keeps linearisations: {_bytes(size)} a window, {_bytes(free)} are free"
    if wanted == "rebuild":
        why = f"of {_bytes(free)} that are free"
    elif small_on_cpu and room == KEPT_BYTES_ON_CPU:
        why = f"and on a CPU more than {_bytes(room)} is slower"
    else:
        why = f"more than {KEPT_SHARE:.0%} of the {_bytes(free)} that are free"
    how = "; --meta-gradient.linearization keep keeps them" if wanted == "auto" else ""
    said = f"the sweep rebuilds linearisations: kept, they would take {_bytes(size)} a window, {why}{how}"
    return make_learner(config, spec), said


def _bytes(size: float) -> str:
    if size < 1e8:
        return f"{size / 1e6:.2g} MB"
    return f"{size / 1e9:,.0f} GB" if size >= 1e11 else f"{size / 1e9:.3g} GB"


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
