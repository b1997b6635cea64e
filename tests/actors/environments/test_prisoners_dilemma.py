"""The prisoner's dilemma: its rules, written down a second time, and the two forms of it against each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actors.environments.prisoners_dilemma import PrisonersDilemma, payoffs
from agents.types import FIRST, LAST, MID
from scripts.studies.tabular_exact import values

PAID = {"dd": (-2, -2), "dc": (0, -3), "cd": (-3, 0), "cc": (-1, -1)}  # one's own move first
MOVES = ["".join(both) for both in itertools.product("dc", repeat=2)]


def test_rounds_pay_what_the_rules_say_and_are_seen():
    world = PrisonersDilemma(rounds=4)
    state, time_step = world.reset(jax.random.PRNGKey(0))
    assert time_step.step_type == FIRST and time_step.observation.tolist() == [1, 0, 0, 0, 0]
    for number, move in enumerate(("cd", "dd", "dc", "cc")):
        state, time_step = world.step(state, jnp.int32(MOVES.index(move)))
        assert time_step.reward == PAID[move][0] and time_step.discount == 1
        assert np.argmax(time_step.observation) == 1 + MOVES.index(move) and time_step.observation.sum() == 1
        assert time_step.step_type == (LAST if number == 3 else MID)
    state, time_step = world.step(state, jnp.int32(2))
    assert time_step.step_type == FIRST and time_step.reward == 0 and time_step.observation[0] == 1


def test_as_a_decision_process_it_is_the_same_game_for_both():
    world = PrisonersDilemma(rounds=9)
    own, other = payoffs()
    for state, action in itertools.product(range(5), range(4)):
        begun = world.reset(jax.random.PRNGKey(0))[0]._replace(cell=jnp.int32(state))
        _, time_step = world.step(begun, jnp.int32(action))
        np.testing.assert_array_equal(own.transition[state, action], time_step.observation)
        np.testing.assert_array_equal(other.transition[state, action], time_step.observation)
        assert (own.reward[state, action], other.reward[state, action]) == PAID[MOVES[action]]
        assert own.reward[state, action] == time_step.reward


@pytest.mark.parametrize(
    "first, second, paid",
    [
        # What a player does at the start and after dd, dc, cd, cc, its own move first.
        ("ddddd", "ddddd", (-2 / (1 - 0.96),) * 2),
        ("cdcdc", "cdcdc", (-1 / (1 - 0.96),) * 2),  # tit for tat: what the other did
        ("ddddd", "cdcdc", (0 - 0.96 * 2 / (1 - 0.96), -3 - 0.96 * 2 / (1 - 0.96))),
    ],
)
def test_values_of_well_known_players(first, second, paid):
    seen = [0, 1, 3, 2, 4]  # the second player's own move first
    sure = np.array([[50.0 if m == first[s] + second[seen[s]] else -50.0 for m in MOVES] for s in range(5)])
    found = [values(game, jnp.asarray(sure), 0.96)[0] for game in payoffs()]
    np.testing.assert_allclose(found, paid, rtol=1e-4)
