"""Frame stacks, rebuilt on the device: trajectories carry every frame once instead of S times."""

import jax
import jax.numpy as jnp

from agents.types import FIRST, Array


def stack_frames(frames: Array, step_type: Array, stack: int) -> Array:
    """[S-1 + T+1, B, H, W] single frames -> [T+1, B, S, H, W] stacks, oldest first, of the same type.

    The stack at time t holds the frames of t-S+1 .. t. Frames before the latest FIRST at s <= t are replaced by frame
    s: that is how EnvPool fills the stack at a reset. The first S-1 frames are the older ones of the stack that was
    seen at t = 0, and are taken as they are.

    Args:
      frames: [S-1 + T+1, B, H, W], time-major.
      step_type: [T+1, B], dm_env.StepType.
      stack: S, at least 1.

    Raises:
      ValueError: the numbers of frames and steps do not fit.
    """
    steps, streams = step_type.shape
    if frames.shape[0] != stack - 1 + steps:
        raise ValueError(f"{frames.shape[0]} frames for {steps} steps; a stack of {stack} needs {stack - 1 + steps}")
    time = jnp.arange(steps)[:, None]
    start = jax.lax.cummax(jnp.where(step_type == FIRST, time, 1 - stack), axis=0)  # [T+1, B]: the latest FIRST
    seen = jnp.maximum(time[..., None] + jnp.arange(1 - stack, 1), start[..., None])  # [T+1, B, S]: time of each frame
    return frames[seen + stack - 1, jnp.arange(streams)[:, None]]
