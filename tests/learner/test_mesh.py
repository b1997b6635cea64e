"""How a batch lies over devices; more than one of them: test_learner.py, in a process of its own."""

import jax
import numpy as np
from jax.sharding import PartitionSpec

from learner.mesh import Mesh, _left_in_groups, free_bytes
from tests.learner import problems


def test_batches_are_split_over_streams_and_all_else_is_everywhere():
    mesh = Mesh()
    assert mesh.devices == jax.local_devices()
    trajectory = problems.trajectory(problems.agent(lstm=2), 0, 0)
    sharded = mesh.shard(trajectory)
    for (path, array), original in zip(jax.tree.leaves_with_path(sharded), jax.tree.leaves(trajectory), strict=True):
        spec = array.sharding.spec
        where = jax.tree_util.keystr(path)
        axis = 0 if "core_state" in where or "params_version" in where else 1
        assert spec == PartitionSpec(*[None] * axis, "streams"), where
        np.testing.assert_allclose(array, original, rtol=1e-6)
    tree = mesh.replicate({"count": 3, "theta": np.ones(2)})
    assert tree["count"] == 3 and type(tree["count"]) is int
    assert tree["theta"].sharding.is_fully_replicated
    assert mesh.shard_streams(np.ones((3, 2))).sharding.spec == PartitionSpec("streams")


def test_memory_is_what_every_control_group_around_leaves(tmp_path):
    def group(path, **files):
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (tmp_path / path / name.replace("_", ".", 1)).write_text(text)

    own = tmp_path / "cgroup"
    own.write_text("5:cpu,cpuacct:/job\n4:memory:/job\n0::/slice/job\n")
    group("root/slice", memory_max="1000\n", memory_current="300\n")
    group("root/slice/job", memory_max="max\n", memory_current="200\n")
    group("root/memory/job", memory_limit_in_bytes="900", memory_usage_in_bytes="850")
    group("root/cpu/job", memory_max="1", memory_current="0")
    assert sorted(_left_in_groups(own, tmp_path / "root")) == [50, 700]
    assert list(_left_in_groups(tmp_path / "none", tmp_path / "root")) == []


def test_a_group_that_leaves_less_than_the_machine_counts(monkeypatch):
    free = free_bytes()
    assert free > 1e8
    monkeypatch.setattr("learner.mesh._left_in_groups", lambda: iter([1000, free]))
    assert free_bytes() == 1000
    monkeypatch.setattr("learner.mesh._left_in_groups", lambda: iter([-5]))
    assert free_bytes() == 0
