import json
import sys
from pathlib import Path

import dm_env
import jax
import numpy as np
import pytest

from actors.environments.make import environment_spec, make_environment, stream_seeds
from agents.make import make_agent
from agents.types import FIRST, LAST, MID
from configs.experiment import agent_settings, to_json
from configs.presets import preset
from configs.tree import ConfigError, override
from learner.checkpoint import Checkpointer
from scripts import evaluate, play
from scripts.cli import main
from scripts.play import check_video, play_episodes
from scripts.run_dir import RunDirectory


def make_run(path, preset_name, **settings):
    """A run directory with one checkpoint of untrained parameters; returns its config."""
    config = override(preset(preset_name), settings)
    spec = environment_spec(config.game, config.environment)
    params = jax.jit(make_agent(config.agent, spec, agent_settings(config)).init)(jax.random.PRNGKey(0))
    RunDirectory.create(path, to_json(config)).close()
    checkpointer = Checkpointer(path / "checkpoints")
    state = {"learner": {"inner": {"params": params}}, "progress": {"agent_steps": 1000}}
    checkpointer.save(50, state, blocking=True)
    checkpointer.close()
    return config


@pytest.fixture(scope="module")
def catch_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("catch") / "run"
    make_run(path, "smoke")
    return path


@pytest.fixture(scope="module")
def pong_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("pong") / "run"
    make_run(path, "atari_stac", **{"network.torso": "nature", "network.lstm": 8})
    return path


class Metronome:
    """Stream i's episodes last i + 1 steps, reward 1 each, and the second half of the streams is truncated."""

    def __init__(self, num_streams):
        self.num_streams = num_streams
        self._left = np.zeros(num_streams, np.int64)

    def reset(self):
        self._left = np.arange(1, self.num_streams + 1)
        return self._time_step(np.full(self.num_streams, FIRST), 0.0)

    def step(self, action):
        over = self._left == 0
        self._left = np.where(over, np.arange(1, self.num_streams + 1), self._left - 1)
        step_type = np.where(over, FIRST, np.where(self._left == 0, LAST, MID))
        return self._time_step(step_type, np.where(over, 0.0, 1.0))

    def _time_step(self, step_type, reward):
        reward = np.broadcast_to(np.float32(reward), (self.num_streams,))
        discount = np.where((step_type == LAST) & (np.arange(self.num_streams) < self.num_streams / 2), 0, 1)
        return dm_env.TimeStep(step_type.astype(np.int8), reward, discount.astype(np.float32), None)


def test_short_episodes_are_not_preferred():
    played = play_episodes(lambda time_step: None, Metronome(4), 10)
    # 10 over 4 streams: quotas 3, 3, 2, 2. The first 10 to end would be 5 of length 1 and one of length 4.
    assert sorted(played.lengths.tolist()) == [1, 1, 1, 2, 2, 2, 3, 3, 4, 4]
    np.testing.assert_array_equal(played.returns, played.lengths)
    assert played.truncated == 4


def test_returns_are_those_of_the_real_game():
    config = preset("smoke")
    environment = make_environment("catch", config.environment, stream_seeds(0, 0, 0, 3), threads=1)

    def catcher(time_step):
        ball, paddle = time_step.observation[:, :-1].any(axis=1).argmax(-1), time_step.observation[:, -1].argmax(-1)
        return np.sign(ball - paddle) + 1

    played = play_episodes(catcher, environment, 7)
    assert played.returns.tolist() == [1.0] * 7
    assert played.lengths.tolist() == [9] * 7
    environment.close()


def test_catch_prints_and_keeps_the_result(catch_run, capsys):
    assert main(["evaluate", str(catch_run), "--episodes", "40", "--streams", "8", "--seed", "3"]) == 0
    first = json.loads((catch_run / "evaluation.json").read_text())
    out = capsys.readouterr().out
    assert "checkpoint 50 updates, 1,000 frames; stac on catch, sampled actions, seed 3" in out
    assert f"mean {first['return_mean']:.2f}, median" in out
    assert len(first["returns"]) == 40 and set(first["returns"]) == {-1.0, 1.0}
    assert first["return_mean"] == pytest.approx(np.mean(first["returns"]))
    assert first["return_std"] == pytest.approx(np.std(first["returns"], ddof=1))
    assert (first["length_mean"], first["human_normalised"]) == (9.0, None)
    # The seed decides, and sampling is not taking the best action.
    main(["evaluate", str(catch_run), "--episodes", "40", "--streams", "8", "--seed", "3"])
    assert json.loads((catch_run / "evaluation.json").read_text())["returns"] == first["returns"]
    main(["evaluate", str(catch_run), "--episodes", "40", "--streams", "8", "--seed", "3", "--greedy"])
    greedy = json.loads((catch_run / "evaluation.json").read_text())
    assert greedy["policy"] == "greedy" and greedy["returns"] != first["returns"]


@pytest.mark.parametrize("terminal", [True, False])
def test_episodes_are_counted_as_they_end(monkeypatch, capsys, terminal):
    monkeypatch.setattr(evaluate, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    play_episodes(lambda time_step: None, Metronome(2), 3, evaluate._Counter(3))
    before, behind = ("\r\x1b[K", "") if terminal else ("onelife: ", "\n")
    said = [
        f"{before}episode {count} of 3: return {score}, ETA 0:00:00{behind}"
        for count, score in ((1, 1), (2, 2), (3, 1))
    ]
    assert capsys.readouterr().err == "".join(said) + ("\n" if terminal else "")


def test_short_episodes_do_not_fill_a_log(capsys):
    play_episodes(lambda time_step: None, Metronome(2), 300, evaluate._Counter(300))
    said = capsys.readouterr().err.splitlines()
    assert len(said) <= 5
    assert said[0].startswith("onelife: episode 1 of 300") and said[-1].startswith("onelife: episode 300 of 300")


def test_atari_with_memory_and_a_film(pong_run, tmp_path, capsys):
    import imageio

    video = tmp_path / "pong.mp4"
    words = [str(pong_run), "--episodes", "2", "--max-episode-frames", "400", "--video", str(video)]
    assert main(["evaluate", *words]) == 0
    result = json.loads((pong_run / "evaluation.json").read_text())
    assert (result["episodes"], result["streams"], result["truncated"]) == (2, 2, 2)
    assert result["lengths"] == [100, 100]
    assert result["env_frames"] == 4000
    expected = (result["return_mean"] + 20.7) / (14.6 + 20.7)
    assert result["human_normalised"] == pytest.approx(expected)
    out = capsys.readouterr().out
    assert "2 of them ended by the limit of frames" in out
    assert f"human-normalised score {100 * expected:.1f} %" in out
    assert f"{video}: 100 steps" in out
    frames = np.stack([frame for frame in imageio.get_reader(video)])  # its length is infinite to list()
    assert frames.shape == (101, 420, 320, 3)
    assert np.abs(frames[-1].astype(int) - frames[0]).max() > 50  # something moves
    assert (frames[50].astype(int).max(-1) - frames[50].min(-1)).max() > 40  # colours, not the agent's grey


def test_a_game_without_episodes_is_played_for_a_fixed_number_of_steps(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "ENDLESS_STEPS", 200)
    monkeypatch.setattr(play, "VIDEO_STEPS", 20)
    make_run(tmp_path / "run", "two_colors_stac")
    video = tmp_path / "board.gif"
    assert main(["evaluate", str(tmp_path / "run"), "--streams", "4", "--video", str(video)]) == 0
    out = capsys.readouterr().out
    assert "two_colors has no episodes: 4 streams of 200 steps" in out
    result = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert len(result["reward_per_step"]) == 4
    assert -0.2 < result["reward_per_step_mean"] < 0.1 and len(set(result["reward_per_step"])) > 1
    assert video.stat().st_size > 1000
    assert main(["evaluate", str(tmp_path / "run"), "--episodes", "4"]) == 2
    assert "--episodes: two_colors has no episodes" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".gif", ".webm"])
def test_catch_can_be_filmed(catch_run, tmp_path, suffix):
    import imageio

    video = tmp_path / f"board{suffix}"
    assert main(["evaluate", str(catch_run), "--episodes", "1", "--video", str(video)]) == 0
    frames = [np.asarray(frame)[..., :3] for frame in imageio.get_reader(video)]
    assert frames[0].shape == (480, 240, 3)
    assert 9 <= len(frames) <= 11  # webm's reader may leave out the last one
    assert (frames[0][24, :] > 150).any() and not (frames[-1][24, :] > 150).any()  # the ball has left the top row


def test_what_has_no_picture_is_not_filmed():
    with pytest.raises(ConfigError, match="--video: grid has no picture; only Atari, catch and two_colors have one"):
        check_video(Path("film.gif"), "grid")


def test_human_normalised_scores():
    assert evaluate.human_normalised_score("atari:pong", 14.6) == pytest.approx(1.0)
    assert evaluate.human_normalised_score("atari:breakout", 1.7) == pytest.approx(0.0)
    assert evaluate.human_normalised_score("atari:adventure", 1.0) is None
    assert evaluate.human_normalised_score("catch", 1.0) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--episodes", "0"], "--episodes: 0 is not allowed; it must be 1 or more"),
        (["--streams", "-2"], "--streams: -2 is not allowed; it must be in [1, 4096]"),
        (["--streams", "5000", "--episodes", "6000"], "--streams: 5000 is not allowed; it must be in [1, 4096]"),
        (["--episodes", "many"], "onelife: --episodes: 'many' is not an integer"),
        (["--episodes", "1e2"], "--episodes: '1e2' is not an integer (write 100)"),
        (["--seed", "-1"], "--seed: -1 is not allowed; it must be in [0, 2147483647]"),
        (["--episode", "3"], "--episode: unknown option of onelife evaluate; did you mean --episodes?"),
        (["--max-episode-frames", "2"], "--max-episode-frames: 2 is not allowed; it must be in [4, 2147483647]"),
        (["--max-episode-frames", "400"], "--max-episode-frames: 400 has no effect on catch"),
        (["--video", "film.avi"], "--video: film.avi does not end in .mp4, .webm or .gif"),
        (["--video", "/no/where/film.mp4"], "--video: there is no directory /no/where"),
    ],
)
def test_wrong_options_get_one_line(catch_run, capsys, words, message):
    assert main(["evaluate", str(catch_run), *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1 and captured.out == ""


def test_runs_that_cannot_be_evaluated_get_one_line(tmp_path, capsys):
    def complaint(*words):
        assert main(["evaluate", *map(str, words)]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err

    assert "RUN_DIR" in complaint()
    assert "is not a directory" in complaint(tmp_path / "nowhere")
    config = preset("smoke")
    RunDirectory.create(tmp_path / "young", to_json(config)).close()
    assert "young has no checkpoint yet" in complaint(tmp_path / "young")
    wider = make_run(tmp_path / "other", "smoke", **{"network.hidden": (8,)})
    (tmp_path / "other" / "config.json").write_text(json.dumps(to_json(override(wider, {"network.hidden": (9,)}))))
    assert "checkpoint of another config or version: " in complaint(tmp_path / "other")
    (tmp_path / "other" / "checkpoints" / "50" / "meta" / "metadata").unlink()
    assert "no readable checkpoint (damaged: 50)" in complaint(tmp_path / "other")


def test_a_missing_video_library_is_named(catch_run, capsys, monkeypatch):
    monkeypatch.setattr(play.importlib.util, "find_spec", lambda name: None)
    assert main(["evaluate", str(catch_run), "--video", "film.mp4"]) == 2
    assert "imageio is missing; install it by pip install -e '.[video]'" in capsys.readouterr().err
