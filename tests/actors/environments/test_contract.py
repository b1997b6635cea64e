"""What `base.Environment` promises, of every environment."""

import numpy as np
import pytest

from actors.config import EnvironmentConfig
from actors.environments.make import environment_spec, make_environment, stream_seeds
from agents.types import FIRST, LAST, MID

GAMES = ("catch", "two_colors", "grid", "tabular_mdp", "prisoners_dilemma", "atari:pong")
STREAMS = 3
STEPS = 30
# Short episodes: several ends in 30 steps. Transitions that are nearly certain would make all streams alike.
CONFIG = EnvironmentConfig(max_episode_frames=4 * 12, switch_steps=10, mdp_horizon=9, mdp_concentration=1.0, rounds=9)


def play(environment, actions):
    """Time steps as one dict of arrays [T+1, B, ...]."""
    steps = [environment.reset(), *(environment.step(action) for action in actions)]
    return {name: np.stack([getattr(step, name) for step in steps]) for name in steps[0]._fields}


def random_actions(game, seed=0):
    num_actions = environment_spec(game, CONFIG).num_actions
    return np.random.default_rng(seed).integers(num_actions, size=(STEPS, STREAMS))


@pytest.fixture(params=GAMES)
def game(request):
    return request.param


@pytest.fixture
def make(game):
    made = []

    def build(seeds=(1, 2, 3), config=CONFIG):
        made.append(make_environment(game, config, seeds, threads=1))
        return made[-1]

    yield build
    for environment in made:
        environment.close()


def test_shapes_types_and_spec(game, make):
    environment = make()
    spec = environment.spec
    assert spec == environment_spec(game, CONFIG)
    assert spec.name == game and environment.num_streams == STREAMS
    played = play(environment, random_actions(game))
    shape = (STEPS + 1, STREAMS)
    for name, dtype in (("step_type", np.int8), ("reward", np.float32), ("discount", np.float32)):
        assert played[name].shape == shape and played[name].dtype == dtype, name
    assert played["observation"].shape == shape + spec.observation_shape
    assert played["observation"].dtype == spec.observation_dtype


def test_streams_reset_themselves(game, make):
    played = play(make(), random_actions(game))
    step_type, reward, discount = played["step_type"], played["reward"], played["discount"]
    first, last = step_type == FIRST, step_type == LAST
    assert np.isin(step_type, (FIRST, MID, LAST)).all()
    assert first[0].all()
    np.testing.assert_array_equal(first[1:], last[:-1])  # FIRST comes after LAST, and only there
    assert (reward[first] == 0).all() and (discount[first] == 1).all() and (discount[step_type == MID] == 1).all()
    episodes = {"two_colors": 0, "grid": 1, "atari:pong": 2}.get(game, 3)  # a grid's can be shorter
    assert (last.sum(0) >= episodes).all() and (game == "grid" or (last.sum(0) == episodes).all())


def test_the_action_after_an_end_is_ignored(game, make):
    if game == "two_colors":
        pytest.skip("its one life never ends")
    actions = random_actions(game)
    played = play(make(), actions)
    changed = actions.copy()
    ends = played["step_type"][:-1] == LAST
    changed[ends] = (changed[ends] + 1) % 3
    assert (changed != actions).any()
    for name, values in play(make(), changed).items():
        np.testing.assert_array_equal(values, played[name], err_msg=name)


def test_seeds_and_actions_decide_everything(game, make):
    actions = random_actions(game)
    played, again = play(make(), actions), play(make(), actions)
    for name in played:
        np.testing.assert_array_equal(played[name], again[name], err_msg=name)
    # A stream does not depend on its place, nor on its neighbours.
    moved = play(make(seeds=(3, 9, 1)), actions[:, [2, 1, 0]])
    for name in played:
        np.testing.assert_array_equal(played[name][:, [2, 0]], moved[name][:, [0, 2]], err_msg=name)
    if game == "prisoners_dilemma":
        return  # nothing in it is random
    same_actions = np.repeat(actions[:, :1], STREAMS, axis=1)
    observation = play(make(), same_actions)["observation"]
    assert (observation[:, 0] != observation[:, 1]).any() and (observation[:, 0] != observation[:, 2]).any()


def test_reset_starts_new_episodes(game, make):
    environment = make()
    play(environment, random_actions(game)[:5])
    assert (environment.reset().step_type == FIRST).all()


def test_the_first_step_of_all_is_a_reset(make):
    assert (make().step(np.zeros(STREAMS, np.int32)).step_type == FIRST).all()


def test_time_steps_are_not_overwritten(game, make):
    """The recorder and the learner's tape keep what an environment returned."""
    environment = make()
    step = environment.reset()
    copies = [np.copy(leaf) for leaf in step]
    for action in random_actions(game):
        environment.step(action)
    for kept, copy in zip(step, copies, strict=True):
        np.testing.assert_array_equal(kept, copy)


def test_bad_actions_are_refused(game, make):
    environment = make()
    environment.reset()
    top = environment.spec.num_actions - 1
    with pytest.raises(ValueError, match=rf"{game}: action {top + 1} is out of range; allowed are 0 to {top}"):
        environment.step(np.array([0, top + 1, 0]))
    with pytest.raises(ValueError, match="action -1 is out of range"):
        environment.step(np.array([0, 0, -1]))
    with pytest.raises(ValueError, match=r"\[3\] integers"):
        environment.step(np.array([0, 0]))
    with pytest.raises(ValueError, match=r"integers, not float64"):
        environment.step(np.zeros(3))
    environment.step(np.array([0, top, 0]))


def test_largest_and_smallest_seed_work(make):
    assert (make(seeds=(0, 2**31 - 1, 5)).reset().step_type == FIRST).all()


def test_state_goes_on_bit_for_bit(game, make):
    actions = random_actions(game)
    environment = make()
    play(environment, actions[:12])
    state = environment.get_state()
    if game.startswith("atari:"):
        assert state is None
        with pytest.raises(RuntimeError, match="use reset"):
            environment.set_state(state)
        return
    ahead = [environment.step(action) for action in actions[12:]]
    other = make(seeds=stream_seeds(7, 0, 0, STREAMS))
    resumed = other.set_state(state)
    expected = play(make(), actions[:12])
    for name in expected:
        np.testing.assert_array_equal(getattr(resumed, name), expected[name][-1], err_msg=name)
    for expected, action in zip(ahead, actions[12:], strict=True):
        for got, want in zip(other.step(action), expected, strict=True):
            np.testing.assert_array_equal(got, want)
    with pytest.raises(ValueError, match="not a state of 2 streams"):
        make(seeds=(1, 2)).set_state(state)
