"""Frame stacks, rebuilt on the device: trajectories carry every frame once instead of S times."""

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
    """
    steps = step_type.shape[0]
    if frames.shape[0] != stack - 1 + steps:
        raise ValueError(
            f"{frames.shape[0]} frames given; a stack of {stack} over {steps} steps needs {stack - 1 + steps}"
        )
    layer = frames[stack - 1 :]
    layers = [layer]
    starts = step_type == FIRST
    restarted = jnp.zeros_like(starts)  # [T+1, B]: a FIRST lies in (t-age, t]
    for age in range(1, stack):
        lagged = jnp.pad(starts[: max(steps - age + 1, 0)], ((min(age - 1, steps), 0), (0, 0)))
        restarted = restarted | lagged
        first = stack - 1 - age
        # Past a restart the next younger layer is already frame s, or a copy of it.
        layer = jnp.where(restarted[..., None, None], layer, frames[first : first + steps])
        layers.append(layer)
    return jnp.stack(layers[::-1], axis=2)
