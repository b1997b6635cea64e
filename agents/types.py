"""The types that cross between rooms, with shapes.

T unroll length, B environment streams of the batch, A actions, S stacked frames. Arrays are time-major.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import dm_env
import numpy as np

Array = Any  # numpy.ndarray on the actor side, jax.Array on the learner side
Params = Any  # pytree of float arrays
CoreState = Any  # pytree of arrays [B, ...]; () where the network has no memory
MetaParams = Any  # pytree of raw (unconstrained) float arrays

FIRST, MID, LAST = (np.int8(step) for step in (dm_env.StepType.FIRST, dm_env.StepType.MID, dm_env.StepType.LAST))


class Trajectory(NamedTuple):
    """T consecutive transitions of B streams, all acted by one version of the parameters per stream.

    One convention of time: ``reward[t]`` and ``discount[t]`` follow ``action[t]``, which was taken at
    ``observation[t]``. Where ``step_type[t]`` is LAST the environment ignored ``action[t]`` and ``observation[t+1]``
    starts the next episode: that *reset transition* carries no experience (see `real_transitions`).
    """

    observation: Array  # [T+1, B, ...]; with a frame stack [S-1 + T+1, B, H, W]: single frames, oldest first
    step_type: Array  # [T+1, B] int8, dm_env.StepType
    action: Array  # [T, B] int32
    behaviour_logits: Array  # [T, B, A] float32
    reward: Array  # [T, B] float32, raw (never clipped)
    discount: Array  # [T, B] float32, the environment's: 0 at termination, 1 elsewhere (at truncation too)
    core_state: CoreState  # [B, ...] before observation[0]
    params_version: Array  # [B] int32, the version that took the stream's actions
    # What the learning rule may know of the lifetime up to and with this batch, the same for all streams (see
    # `Agent.next_context`). The learner puts it here; actors leave it empty.
    context: Any = ()


def real_transitions(step_type: Array) -> Array:
    """[T+1, B] step types -> [T, B] bool: True where the action was really taken, False on reset transitions."""
    return step_type[:-1] != LAST


class Provenance(NamedTuple):
    """Where an unroll comes from; stays on the host."""

    actor_index: int
    incarnation: int  # 0, then +1 each time the actor was replaced
    unroll_index: int  # 0, 1, ... within the incarnation
    params_version: int


class Unroll(NamedTuple):
    """What one actor hands over: its share of a batch, and where it comes from."""

    trajectory: Trajectory  # numpy arrays, B = this actor's streams
    provenance: Provenance


class VersionedParams(NamedTuple):
    """What the learner publishes: `version` counts inner updates, so D^k acted by version k is on-policy."""

    version: int
    params: Params


class EnvironmentSpec(NamedTuple):
    """What an agent needs to know of an environment."""

    name: str
    observation_shape: tuple[int, ...]  # of what the agent sees, e.g. (4, 84, 84) for stacked frames, channel first
    observation_dtype: Any
    num_actions: int
    frame_stack: int  # S; 1 where observations are not stacked frames
    frames_per_step: int  # emulator frames an agent step takes (4 on Atari, 1 elsewhere)


class NetworkOutput(NamedTuple):
    """What a network says of each observation; `[...]` is [B], or [T+1, B]."""

    logits: Array  # [..., A]
    value: Array  # [...]
    features: Array = ()  # [..., F] what all heads read
    heads: Any = ()  # {name: [..., width]} the further heads that an agent asked for; () where it asked for none


class Agent(NamedTuple):
    """An agent as pure functions. `learner` and `actors` meet every agent through this and nothing else.

    Losses come per stream, [B]; the loss to minimise is their mean over streams (so that "sum" reduction is inside).
    Meta-parameters enter losses raw; scalar ones may also be given per stream, as [B].
    """

    init: Callable[..., Params]  # (key) -> params
    initial_state: Callable[..., CoreState]  # (batch size) -> core_state
    # (params, observation [B, ...], step_type [B], core_state); logits are [1, A] where all streams have one policy
    step: Callable[..., tuple[NetworkOutput, CoreState]]
    unroll: Callable[..., NetworkOutput]  # (params, trajectory) -> logits [T+1, B, A], value [T+1, B]
    init_meta: Callable[[Array], MetaParams]  # (key) -> raw meta-parameters at their initial values; {} for none
    meta_values: Callable[[MetaParams], dict[str, Array]]  # raw -> name: value in its own units, for logs
    # (meta_params, output, trajectory) -> [B], logs. A log named "meta/x" is the batch's mean of a meta-parameter x
    # that is no constant; the others are parts of the loss.
    inner_loss: Callable[..., tuple[Array, dict[str, Array]]]
    outer_loss: Callable[..., tuple[Array, dict[str, Array]]]  # (output, trajectory, anchor_logits) -> [B], logs
    uses_anchor: bool  # whether outer_loss reads anchor_logits [T+1, B, A], the policy at the window's start
    stream_score: Callable[..., Array]  # (output, trajectory) -> [B] Σ_t log π(a_t|s_t) of the real actions
    # (trajectory, logits=None) -> [B] what outer_loss stands for, with the opposite sign: earned by the policy that
    # acted, or an estimate, by importance ratios, of what a policy with logits [T+1, B, A] would have earned: asked for
    # where batches lag, so that an agent which needs --lag 0 (bandit) may take the trajectory alone
    stream_return: Callable[..., Array]
    # (meta_params, output, trajectory) -> [B]: η's own charge beside the outer loss; θ is constant to it.
    meta_penalty: Callable[..., Array] | None = None
    starts_from_meta: bool = False  # whether θ⁰ is meta_params["params"], and each window a life that starts there
    init_context: Callable[[], Any] = tuple  # () -> the context of a life that has seen no batch
    next_context: Callable[..., Any] = lambda context, trajectory: context  # (context, trajectory) -> with this batch
    # (trajectory) -> what both losses are times a mean over the batch: T·B where they are sums.
    loss_scale: Callable[[Trajectory], float] = lambda trajectory: 1.0
