"""The recorder: an agent and an environment in, trajectories out.

The only code that knows the order in which an environment hands out rewards. A recorder carries the last time step of
an unroll over to the next one, where its action is chosen anew, by that unroll's parameters.
"""

from collections.abc import Sequence
from typing import Any

import dm_env
import jax
import jax.numpy as jnp
import numpy as np

from actors.draw import draw
from actors.environments.base import Environment, JaxEnvironment
from actors.environments.jax_adapter import stream_keys, vmap_environment
from agents.types import Agent, Array, CoreState, EnvironmentSpec, Params, Trajectory, VersionedParams


def _choose(
    agent: Agent, params: Params, time_step: dm_env.TimeStep, core_state: CoreState, key: Array, t: Array
) -> tuple[Array, Array, CoreState]:
    """-> action [B] int32, drawn from the behaviour logits [B, A] float32, which come next, and the new core state."""
    output, core_state = agent.step(params, time_step.observation, time_step.step_type, core_state)
    shape = time_step.step_type.shape
    action = draw(jax.random.fold_in(key, t), jax.nn.softmax(output.logits), shape)
    logits = jnp.broadcast_to(output.logits, (*shape, output.logits.shape[-1]))
    return action, logits.astype(jnp.float32), core_state


_act = jax.jit(_choose, static_argnums=0)


def trajectory_shapes(agent: Agent, spec: EnvironmentSpec, unroll_length: int, streams: int) -> Trajectory:
    """A batch's shapes and types, as actors record it."""
    steps, observation = unroll_length + 1, spec.observation_shape
    if spec.frame_stack > 1:  # single frames, and what the first of them is stacked on
        steps, observation = unroll_length + spec.frame_stack, observation[1:]

    def shape(length: int, dtype: Any, *rest: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((length, streams, *rest), dtype)

    return Trajectory(
        observation=shape(steps, spec.observation_dtype, *observation),
        step_type=shape(unroll_length + 1, np.int8),
        action=shape(unroll_length, np.int32),
        behaviour_logits=shape(unroll_length, np.float32, spec.num_actions),
        reward=shape(unroll_length, np.float32),
        discount=shape(unroll_length, np.float32),
        core_state=jax.eval_shape(lambda: agent.initial_state(streams)),
        params_version=jax.ShapeDtypeStruct((streams,), np.int32),
        context=jax.eval_shape(agent.init_context),
    )


def start_in_graph(agent: Agent, environment: JaxEnvironment, keys: Array, task_key: Array | None = None) -> Any:
    """What `unroll_in_graph` carries, at the start of the streams' first episodes.

    keys [B, 2]; task_key [2], of the task that all streams share, for environments with tasks.
    """
    reset = environment.reset if task_key is None else lambda key: environment.reset(key, task_key)
    return (*jax.vmap(reset)(keys), agent.initial_state(keys.shape[0]))


def unroll_in_graph(
    agent: Agent,
    environment: JaxEnvironment,
    unroll_length: int,
    params: Params,
    version: Array,
    carry: Any,
    key: Array,
) -> tuple[Trajectory, Any]:
    """T steps of all streams; `carry` is (environment state, time step, core state) from one unroll to the next."""
    _, environment_step = vmap_environment(environment)

    def step(carry: Any, t: Array) -> tuple[Any, tuple[Array, ...]]:
        state, before, core_state = carry
        action, logits, core_state = _choose(agent, params, before, core_state, key, t)
        state, after = environment_step(state, action)
        recorded = (before.observation, before.step_type, action, logits, after.reward, after.discount)
        return (state, after, core_state), recorded

    core_state = carry[2]
    carry, recorded = jax.lax.scan(step, carry, jnp.arange(unroll_length))
    observation, step_type, action, logits, reward, discount = recorded
    last = carry[1]
    trajectory = Trajectory(
        observation=jnp.concatenate([observation, last.observation[None]]),
        step_type=jnp.concatenate([step_type, last.step_type[None]]),
        action=action,
        behaviour_logits=logits,
        reward=reward,
        discount=discount,
        core_state=core_state,
        params_version=jnp.full(action.shape[1:], version, jnp.int32),
    )
    return trajectory, carry


_start = jax.jit(start_in_graph, static_argnums=(0, 1))
_scan = jax.jit(unroll_in_graph, static_argnums=(0, 1, 2))


def _on_device(tree: Any) -> Any:
    """On the device that acts: no copy of what is there already. All of it placed alike, so that jax compiles once."""
    return jax.device_put(tree, jax.local_devices()[0])


def _to_numpy(tree: Any) -> Any:
    """Numpy arrays in C order, views where that can be (on CPU)."""
    return jax.tree.map(np.ascontiguousarray, tree)


class HostRecorder:
    """Records any `Environment`, one call of the network and one of the environment for each step."""

    def __init__(self, agent: Agent, environment: Environment, unroll_length: int):
        self._agent = agent
        self._environment = environment
        self._unroll_length = unroll_length
        self.num_streams = environment.num_streams
        self._core_state = _on_device(agent.initial_state(self.num_streams))
        self._time_step = environment.reset()

    def record(self, params: VersionedParams, key: Array) -> Trajectory:
        """The next T transitions, acted by `params`; random numbers from `key`, folded with the step's number."""
        length, streams, stack = self._unroll_length, self.num_streams, self._environment.spec.frame_stack
        time_step, core_state = self._time_step, self._core_state
        theta = _on_device(params.params)  # once for the whole unroll
        first_core_state = _to_numpy(core_state)
        # Buffers are fresh for each unroll: a learner may keep the trajectory for a whole window.
        observation = self._observation_buffer(time_step.observation)
        step_type = np.empty((length + 1, streams), np.int8)
        action = np.empty((length, streams), np.int32)
        reward = np.empty((length, streams), np.float32)
        discount = np.empty((length, streams), np.float32)
        logits = []
        step_type[0] = time_step.step_type
        for t in range(length):
            chosen, step_logits, core_state = _act(self._agent, theta, time_step, core_state, key, np.int32(t))
            logits.append(step_logits)
            action[t] = chosen
            time_step = self._environment.step(action[t])
            reward[t], discount[t], step_type[t + 1] = time_step.reward, time_step.discount, time_step.step_type
            newest = time_step.observation[:, -1] if stack > 1 else time_step.observation
            observation[stack + t] = newest
        self._time_step, self._core_state = time_step, core_state
        return Trajectory(
            observation=observation,
            step_type=step_type,
            action=action,
            behaviour_logits=np.stack(logits),
            reward=reward,
            discount=discount,
            core_state=first_core_state,
            params_version=np.full(streams, params.version, np.int32),
        )

    def _observation_buffer(self, observation: Array) -> np.ndarray:
        """[S-1 + T+1, B, ...] of single frames, with the first S (the whole stack at t=0) filled in."""
        stack, rows = self._environment.spec.frame_stack, self._unroll_length + self._environment.spec.frame_stack
        frame_shape = observation.shape[2:] if stack > 1 else observation.shape[1:]
        buffer = np.empty((rows, self.num_streams, *frame_shape), observation.dtype)
        buffer[:stack] = np.swapaxes(observation, 0, 1) if stack > 1 else observation[None]
        return buffer

    def get_state(self) -> dict[str, Any] | None:
        """Arrays and tuples, for `set_state`; None where the environment cannot be saved."""
        state = self._environment.get_state()
        if state is None:
            return None
        return {"environment": _leaves(state), "core_state": _leaves(self._core_state)}

    def set_state(self, state: dict[str, Any]) -> None:
        structure = jax.tree.structure(self._environment.get_state())
        self._time_step = self._environment.set_state(jax.tree.unflatten(structure, state["environment"]))
        structure = jax.tree.structure(self._core_state)
        self._core_state = _on_device(jax.tree.unflatten(structure, state["core_state"]))

    def close(self) -> None:
        self._environment.close()


class ScanRecorder:
    """Records a `JaxEnvironment` in one call for each unroll: the same trajectories as `HostRecorder`."""

    def __init__(
        self, agent: Agent, environment: JaxEnvironment, seeds: Sequence[int] | np.ndarray, unroll_length: int
    ):
        if environment.spec.frame_stack > 1:
            raise ValueError(f"{environment.spec.name}: frame stacks are recorded by HostRecorder only")
        self._agent = agent
        self._environment = environment
        self._unroll_length = unroll_length
        self.num_streams = len(seeds)
        self._carry = _on_device(_start(agent, environment, stream_keys(seeds)))

    def record(self, params: VersionedParams, key: Array) -> Trajectory:
        """See `HostRecorder.record`."""
        theta, version = _on_device(params.params), np.int32(params.version)
        trajectory, self._carry = _scan(
            self._agent, self._environment, self._unroll_length, theta, version, self._carry, key
        )
        return _to_numpy(trajectory)

    def get_state(self) -> dict[str, Any]:
        """See `HostRecorder.get_state`."""
        return {"environment": _leaves(self._carry[:2]), "core_state": _leaves(self._carry[2])}

    def set_state(self, state: dict[str, Any]) -> None:
        leaves = [*state["environment"], *state["core_state"]]
        self._carry = _on_device(jax.tree.unflatten(jax.tree.structure(self._carry), leaves))

    def close(self) -> None:
        pass


def _leaves(tree: Any) -> tuple[np.ndarray, ...]:
    """A flat tuple survives any checkpoint; a recorder of the same settings knows the structure."""
    return tuple(np.asarray(leaf) for leaf in jax.tree.leaves(tree))
