import jax
import numpy as np
import pytest

from actors import unroll
from actors.environments.make import make_environment, make_jax_environment, stream_seeds
from actors.unroll import HostRecorder, ScanRecorder
from agents.frames import stack_frames
from agents.types import LAST, VersionedParams, real_transitions

LENGTH = 7


@pytest.fixture
def echo(kit):
    environment = kit.EchoEnvironment()
    agent = kit.small_agent()(environment.spec)
    params = VersionedParams(3, agent.init(jax.random.PRNGKey(0)))
    return environment, agent, params


def record(recorder, params, unrolls):
    return [recorder.record(params, jax.random.PRNGKey(index)) for index in range(unrolls)]


def test_reward_follows_its_action(echo):
    environment, agent, params = echo
    actions = 0
    for trajectory in record(HostRecorder(agent, environment, LENGTH), params, 4):
        real = real_transitions(trajectory.step_type)
        np.testing.assert_array_equal(trajectory.reward, np.where(real, trajectory.action, 0))
        actions += np.count_nonzero(trajectory.reward)
    assert actions > 20


def test_discount_and_step_types_belong_to_the_time_that_follows(echo):
    environment, agent, params = echo
    [trajectory] = record(HostRecorder(agent, environment, LENGTH), params, 1)
    ends = trajectory.step_type[1:] == LAST
    assert ends[:, 0].sum() == 2 and ends[:, 1].sum() == 2
    np.testing.assert_array_equal(trajectory.discount[:, 0], np.where(ends[:, 0], 0, 1))
    np.testing.assert_array_equal(trajectory.discount[:, 1], 1)


def test_types_and_shapes(echo):
    environment, agent, params = echo
    [trajectory] = record(HostRecorder(agent, environment, LENGTH), params, 1)
    got = jax.tree.map(lambda x: (x.shape, str(x.dtype), x.flags.c_contiguous), trajectory)
    assert got == type(trajectory)(
        observation=((LENGTH + 1, 2, 1), "float32", True),
        step_type=((LENGTH + 1, 2), "int8", True),
        action=((LENGTH, 2), "int32", True),
        behaviour_logits=((LENGTH, 2, 5), "float32", True),
        reward=((LENGTH, 2), "float32", True),
        discount=((LENGTH, 2), "float32", True),
        core_state=(((2, 4), "float32", True), ((2, 4), "float32", True)),
        params_version=((2,), "int32", True),
    )
    assert trajectory.params_version.tolist() == [3, 3]


def test_last_time_step_is_carried_over_and_acted_anew(echo):
    environment, agent, params = echo
    recorder = HostRecorder(agent, environment, LENGTH)
    first, second = record(recorder, params, 2)
    np.testing.assert_array_equal(first.observation[-1], second.observation[0])
    np.testing.assert_array_equal(first.step_type[-1], second.step_type[0])
    np.testing.assert_array_equal(second.observation[1:, :, 0], LENGTH + 1 + np.arange(LENGTH)[:, None] + [[0, 0]])


def test_core_state_and_logits_are_those_of_the_recorded_times(echo):
    environment, agent, params = echo
    first, second = record(HostRecorder(agent, environment, LENGTH), params, 2)
    step = jax.jit(agent.step)
    core_state = first.core_state
    for t in range(LENGTH):
        output, core_state = step(params.params, first.observation[t], first.step_type[t], core_state)
        np.testing.assert_array_equal(first.behaviour_logits[t], output.logits)
    jax.tree.map(np.testing.assert_array_equal, second.core_state, core_state)
    assert all(np.any(leaf) for leaf in second.core_state)


def test_actions_follow_the_logits(echo):
    """Two actions have all the probability: no other one is ever drawn, and both are."""
    environment, agent, params = echo

    def step(params, observation, step_type, core_state):
        output, core_state = agent.step(params, observation, step_type, core_state)
        return output._replace(logits=output.logits * 0 + np.array([-1e9, 0, -1e9, 0, -1e9])), core_state

    trajectories = record(HostRecorder(agent._replace(step=step), environment, LENGTH), params, 3)
    assert {int(action) for trajectory in trajectories for action in trajectory.action.flat} == {1, 3}


@pytest.mark.parametrize("game", ["catch", "two_colors"])
def test_host_and_scan_record_the_same_bits(kit, game):
    jax_environment = make_jax_environment(game, kit.CONFIG)
    agent = kit.small_agent()(jax_environment.spec)
    seeds = stream_seeds(1, 0, 0, 4)
    scan = ScanRecorder(agent, jax_environment, seeds, LENGTH)
    host = HostRecorder(agent, make_environment(game, kit.CONFIG, seeds, 1), LENGTH)
    versions = kit.Versions(game)
    actions = []
    for version in range(4):
        key = jax.random.PRNGKey(version)
        expected = host.record(versions(version), key)
        kit.assert_same(expected, scan.record(versions(version), key))
        actions.append(expected.action)
    assert len(np.unique(np.stack(actions))) > 1
    kit.assert_same(host.get_state(), scan.get_state())


def test_each_form_compiles_once(kit):
    environment = make_jax_environment("catch", kit.CONFIG)
    agent = kit.small_agent()(environment.spec)
    seeds = stream_seeds(1, 0, 0, 4)
    scans, acts = unroll._scan._cache_size(), unroll._act._cache_size()
    for recorder in (
        ScanRecorder(agent, environment, seeds, LENGTH),
        HostRecorder(agent, make_environment("catch", kit.CONFIG, seeds, 1), LENGTH),
    ):
        versions = kit.Versions()
        for version in range(3):
            recorder.record(versions(version), jax.random.PRNGKey(version))
        recorder.set_state(recorder.get_state())
        recorder.record(versions(3), jax.random.PRNGKey(3))
    assert (unroll._scan._cache_size() - scans, unroll._act._cache_size() - acts) == (1, 1)


@pytest.mark.parametrize("form", ["scan", "host"])
def test_a_saved_recorder_goes_on_bit_for_bit(kit, form):
    jax_environment = make_jax_environment("catch", kit.CONFIG)
    agent = kit.small_agent()(jax_environment.spec)

    def make(seed):
        seeds = stream_seeds(seed, 0, 0, 4)
        if form == "scan":
            return ScanRecorder(agent, jax_environment, seeds, LENGTH)
        return HostRecorder(agent, make_environment("catch", kit.CONFIG, seeds, 1), LENGTH)

    versions = kit.Versions()
    recorder, other = make(0), make(1)
    record(recorder, versions(0), 2)
    other.set_state(recorder.get_state())
    expected = record(recorder, versions(1), 3)
    kit.assert_same(expected, record(other, versions(1), 3))


def test_stacked_frames_are_recorded_once_each(kit):
    """Real Pong: what the learner stacks again is what the actor saw, over episode ends and unroll borders."""
    config = kit.EnvironmentConfig(max_episode_frames=4 * 6)
    environment = make_environment("pong", config, stream_seeds(0, 0, 0, 2), 1)
    agent = kit.small_agent(lstm=0)(environment.spec)
    seen = []

    class Spy:
        spec, num_streams = environment.spec, environment.num_streams

        def reset(self):
            return self._see(environment.reset())

        def step(self, action):
            return self._see(environment.step(action))

        def _see(self, time_step):
            seen.append(time_step.observation.copy())
            return time_step

    recorder = HostRecorder(agent, Spy(), LENGTH)
    params = VersionedParams(0, agent.init(jax.random.PRNGKey(0)))
    trajectories = record(recorder, params, 3)
    for index, trajectory in enumerate(trajectories):
        assert trajectory.observation.shape == (3 + LENGTH + 1, 2, 84, 84)
        assert trajectory.observation.dtype == np.uint8
        stacks = stack_frames(trajectory.observation, trajectory.step_type, 4)
        np.testing.assert_array_equal(stacks, np.stack(seen[index * LENGTH : (index + 1) * LENGTH + 1]))
    assert sum(np.count_nonzero(trajectory.step_type[1:] == LAST) for trajectory in trajectories) >= 4
    assert not np.shares_memory(trajectories[0].observation, trajectories[1].observation)
    # The learner's pass over the whole unroll agrees with what the actor did one step after another.
    output = jax.jit(agent.unroll)(params.params, trajectories[1])
    np.testing.assert_allclose(output.logits[:-1], trajectories[1].behaviour_logits, rtol=1e-4, atol=1e-5)
