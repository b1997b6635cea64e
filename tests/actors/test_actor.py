import itertools

import jax
import numpy as np

from agents.types import Provenance


def flat_policy(versions):
    """Every action is as likely as any other: the actions show the random numbers alone."""
    return versions(0)._replace(params=jax.tree.map(np.zeros_like, versions(0).params))


def test_no_two_unrolls_share_random_numbers(kit):
    params = flat_policy(kit.Versions())
    make = kit.actor_maker(num_streams=8, unroll_length=10)
    draws = []
    for actor_index, incarnation in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        actor = make(actor_index, incarnation)
        draws += [actor.unroll(params).trajectory.action for _ in range(2)]
    steps = draws[0]
    pairs = [*itertools.combinations(draws, 2), (steps[:-1], steps[1:])]  # of unrolls, and of the steps of one
    for one, other in pairs:
        assert np.mean(one == other) < 0.6, "1/3 of them agree by chance"


def test_the_same_actor_repeats_itself(kit):
    versions = kit.Versions()
    one, other = (kit.actor_maker()(1, 2) for _ in range(2))
    for version in range(3):
        kit.assert_same(one.unroll(versions(version)), other.unroll(versions(version)))


def test_provenance(kit):
    versions = kit.Versions()
    actor = kit.actor_maker()(2, 5)
    actor.unroll(versions(0))
    unroll = actor.unroll(versions(4))
    assert unroll.provenance == Provenance(actor_index=2, incarnation=5, unroll_index=1, params_version=4)
    assert unroll.trajectory.params_version.tolist() == [4, 4, 4]


def test_state_goes_on_bit_for_bit(kit):
    versions = kit.Versions()
    one, other = kit.actor_maker()(0, 0), kit.actor_maker()(0, 0)
    one.unroll(versions(0))
    other.set_state(one.get_state())
    for version in range(1, 4):
        kit.assert_same(one.unroll(versions(version)), other.unroll(versions(version)))


def test_atari_has_no_state_to_save(kit):
    actor = kit.actor_maker("pong", kit.small_agent(lstm=0), num_streams=1)(0, 0)
    assert actor.get_state() is None
    actor.close()
