"""How a batch lies over devices; more than one of them: test_learner.py, in a process of its own."""

import jax
import numpy as np
from jax.sharding import PartitionSpec

from learner.mesh import Mesh
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
