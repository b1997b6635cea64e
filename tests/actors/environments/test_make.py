import subprocess
import sys

import numpy as np
import pytest

from actors.config import EnvironmentConfig
from actors.environments import atari
from actors.environments.catch import Catch
from actors.environments.make import (
    MAX_STREAMS,
    environment_spec,
    make_jax_environment,
    normalise_game,
    stream_seeds,
)
from actors.environments.two_colors import TwoColors


@pytest.mark.parametrize(
    ("name", "game"),
    [
        ("pong", "atari:pong"),
        ("Pong", "atari:pong"),
        ("atari:Pong", "atari:pong"),
        ("MsPacman", "atari:ms_pacman"),
        ("ms_pacman", "atari:ms_pacman"),
        ("atari:MsPacman-v5", "atari:ms_pacman"),
        ("TicTacToe3d", "atari:tic_tac_toe_3d"),
        ("catch", "catch"),
        ("two_colors", "two_colors"),
        ("TwoColors", "two_colors"),
        ("two-colors", "two_colors"),
    ],
)
def test_spellings(name, game):
    assert normalise_game(name) == game


def test_every_game_is_known_by_its_own_name_and_by_envpools():
    games = atari.list_games()
    assert len(games) == len(set(games)) == 104
    for game in games:
        assert normalise_game(game) == normalise_game(atari.task_id(game)) == f"atari:{game}"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ponng", "pong"),
        ("atari:brakeout", "breakout"),
        ("two_colours", "two_colors"),
        ("cach", "catch"),
        ("", None),
        ("pong!", "pong"),
        ("zzzz", None),
        ("mujoco:ant", None),
    ],
)
def test_unknown_games(name, nearest):
    with pytest.raises(ValueError, match="unknown game") as error:
        normalise_game(name)
    message = str(error.value)
    assert "\n" not in message and repr(name.removeprefix("atari:")) in message
    if nearest:
        assert message.endswith(f"did you mean {nearest}?")


def test_a_game_of_our_own_is_not_of_atari():
    with pytest.raises(ValueError, match=r"unknown game 'atari:Catch': catch is not of Atari; write catch$"):
        normalise_game("atari:Catch")


def test_names_and_specs_start_nothing():
    """Validation comes before any environment or device: it must not import an engine."""
    code = (
        "import sys; from actors.config import EnvironmentConfig; from actors.environments import make; "
        "make.normalise_game('pong'); make.environment_spec('pong', EnvironmentConfig()); "
        "sys.exit(' '.join({'envpool', 'jax'} & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_jax_forms():
    config = EnvironmentConfig(switch_steps=7)
    assert make_jax_environment("catch", config) == Catch()
    assert make_jax_environment("two_colors", config) == TwoColors(7)
    assert make_jax_environment("pong", config) is None


def test_protocols_decide_the_action_set():
    assert environment_spec("pong", EnvironmentConfig(protocol="sticky")).num_actions == 18
    assert environment_spec("pong", EnvironmentConfig(protocol="noop")).num_actions == 6


@pytest.mark.parametrize("seed", range(4))
def test_stream_seeds_are_disjoint(seed):
    blocks = [stream_seeds(seed, actor, incarnation, 40) for actor in range(10) for incarnation in range(10)]
    # Far apart in the numbering too: a factor that is not odd would give blocks half the modulus apart the same seeds.
    blocks += [stream_seeds(seed, actor, incarnation, 40) for actor in (512, 1023) for incarnation in (256, 511)]
    blocks += [stream_seeds(seed, 0, 256, 40), stream_seeds(seed, 20, 20, MAX_STREAMS)]
    seeds = np.concatenate(blocks)
    assert len(np.unique(seeds)) == len(seeds)
    assert seeds.min() >= 0 and seeds.max() < 2**31


def test_stream_seeds_follow_the_runs_seed():
    np.testing.assert_array_equal(stream_seeds(5, 1, 2, 8), stream_seeds(5, 1, 2, 8))
    np.testing.assert_array_equal(stream_seeds(5, 1, 2, 8)[:3], stream_seeds(5, 1, 2, 3))
    runs = [stream_seeds(seed, 0, 0, 32) for seed in range(50)]
    np.testing.assert_array_equal(stream_seeds(range(50), 0, 0, 32), runs)
    assert len(np.unique(np.concatenate(runs))) == 50 * 32


def test_stream_seeds_limits():
    with pytest.raises(ValueError, match="4097 is not in 1 to 4096"):
        stream_seeds(0, 0, 0, 4097)
    with pytest.raises(ValueError, match="1025 is not in 1 to 1024"):
        stream_seeds(0, 1024, 0, 1)
