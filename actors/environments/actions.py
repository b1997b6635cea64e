"""The one check of the actions that a batched environment is given."""

import numpy as np

from agents.types import Array, EnvironmentSpec


def checked_actions(action: Array, spec: EnvironmentSpec, num_streams: int) -> np.ndarray:
    """Actions as [B] int32. Raises ValueError on another shape, on a type that is not integer, or out of range.

    EnvPool itself accepts an action beyond the action set and reads past the end of its table.
    """
    action = np.asarray(action)
    if action.shape != (num_streams,) or action.dtype.kind not in "iu":
        raise ValueError(f"{spec.name}: actions must be [{num_streams}] integers, not {action.dtype} {action.shape}")
    if action.size and (action.min() < 0 or action.max() >= spec.num_actions):
        bad = action[(action < 0) | (action >= spec.num_actions)][0]
        raise ValueError(f"{spec.name}: action {bad} is out of range; allowed are 0 to {spec.num_actions - 1}")
    return action.astype(np.int32, copy=False)
