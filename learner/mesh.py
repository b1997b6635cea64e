"""Which devices the learner uses, and how a batch lies over them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax
from jax.sharding import NamedSharding, PartitionSpec

from agents.types import Array, Trajectory

STREAMS = "streams"


def free_bytes() -> int:
    """Memory that one device of this process has left; of a CPU, this machine's or what its container allows."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return max(0, min(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_left_in_groups()))


def _left_in_groups(own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """Bytes left under each memory limit of the control groups (of either version) that this process is in."""
    for line in own.read_text().splitlines() if own.exists() else ():
        _, kinds, path = line.split(":", 2)
        if not kinds:
            base, names = root, ("memory.max", "memory.current")
        elif "memory" in kinds.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        group = base / path.lstrip("/")
        while group.is_relative_to(base):
            try:
                limit, used = (int((group / name).read_text()) for name in names)
                yield limit - used
            except (OSError, ValueError):  # no such file, or "max": no limit here
                pass
            group = group.parent


class Mesh:
    """Every local device holds a share of the B streams; everything else is replicated.

    Losses, scores and mean returns are written over the whole batch, so `jit` inserts the collectives: a sum over
    streams is the global one, as the sampling correction needs before it forms its products.
    """

    def __init__(self, devices: list[jax.Device] | None = None):
        self.devices = devices or jax.local_devices()
        mesh = jax.sharding.Mesh(self.devices, (STREAMS,))
        self._replicated = NamedSharding(mesh, PartitionSpec())
        self._leading = NamedSharding(mesh, PartitionSpec(STREAMS))
        self._second = NamedSharding(mesh, PartitionSpec(None, STREAMS))
        second = {name: self._second for name in Trajectory._fields}
        own = {"core_state": self._leading, "params_version": self._leading, "context": self._replicated}
        self._of_batch = Trajectory(**second | own)

    def replicate(self, tree: Any) -> Any:
        """Arrays of `tree` on every device; other leaves (counters) as they are."""
        return jax.tree.map(lambda x: x if isinstance(x, int) else jax.device_put(x, self._replicated), tree)

    def shard(self, trajectory: Trajectory) -> Trajectory:
        """One transfer of a batch, split over its streams."""
        return jax.device_put(trajectory, self._of_batch)

    def shard_streams(self, array: Array, axis: Literal[0, 1] = 0) -> Array:
        """[B, ...], or with axis 1 [T, B, ...], split over its streams."""
        return jax.device_put(array, (self._leading, self._second)[axis])


class NoMesh:
    """For lives that run inside the graph: everything stays where the graph has it."""

    def replicate(self, tree: Any) -> Any:
        return tree

    def shard(self, trajectory: Trajectory) -> Trajectory:
        return trajectory

    def shard_streams(self, array: Array, axis: Literal[0, 1] = 0) -> Array:
        del axis
        return array
