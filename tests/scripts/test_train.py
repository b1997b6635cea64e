"""Whole runs through the command line: resume, both runtimes, signals, kill -9, a short life on real Atari."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from agents.networks_meta import rule_network
from agents.rules import save_rule
from configs.presets import preset
from configs.tree import override
from learner.checkpoint import Checkpointer
from learner.learner import Learner
from learner.loggers import MetricsLogger
from learner.loop import TrainingStopped
from scripts.cli import main
from scripts.train import _less_memory

TINY = ["smoke", "--streams", "4", "--unroll", "5", "--window", "3", "--correction", "0.1", "--network.hidden", "8"]
TINY += ["--log.updates", "4", "--log.tensorboard", "false", "--log.report", "false"]
TINY += ["--meta-gradient.diagnostics", "0"]
UPDATE = 4 * 5  # agent steps of one update, at most: reset transitions are not counted
CLOCKS = {"wall_seconds", "steps_per_second"}


def run(run_dir: Path, *words: str) -> None:
    assert main(["train", *TINY, "--run-dir", str(run_dir), *words]) == 0


def metrics(run_dir: Path) -> list[dict]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in CLOCKS} for line in lines]


def final_state(run_dir: Path):
    step, state = Checkpointer(run_dir / "checkpoints").restore()
    state["progress"].pop("wall_seconds")
    # How far the actors are ahead is a matter of time, what they deliver next is not.
    state["pool"] = state["pool"]["statistics"]
    return step, state


def assert_equal(a, b, path="state"):
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_equal(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_equal(*pair, f"{path}/{i}")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), path
    else:
        assert a == b or (a != a and b != b), path


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("lag", ["0", "1"])
def test_resumed_or_over_ray_a_life_is_the_same_bit_for_bit(tmp_path, monkeypatch, capsys, lag):
    """Stopped in the middle of a window, with an unroll under way at lag 1; then damaged, and refused."""
    settings = ("--lag", lag, "--actors", "2", *(("--network.lstm", "6") if lag == "1" else ()))
    run(tmp_path / "whole", "--frames", str(30 * UPDATE), *settings)
    run(tmp_path / "ray", "--frames", str(30 * UPDATE), "--runtime", "ray", *settings)
    assert len(metrics(tmp_path / "ray")) >= 6
    assert metrics(tmp_path / "ray") == metrics(tmp_path / "whole")
    run(tmp_path / "parts", "--frames", str(13 * UPDATE), *settings)
    assert main(["train", "--resume", str(tmp_path / "parts"), "--frames", str(30 * UPDATE)]) == 0
    whole, parts = (final_state(tmp_path / name) for name in ("whole", "parts"))
    assert whole[0] == parts[0] > 30
    assert_equal(whole[1], parts[1])
    assert metrics(tmp_path / "parts")[-1] == metrics(tmp_path / "whole")[-1]
    if lag == "0":  # once is enough
        assert_refused_before_ray(tmp_path / "ray", monkeypatch, capsys)


def damage(run_dir: Path) -> None:
    for file in (run_dir / "checkpoints").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")


def assert_refused_before_ray(run_dir, monkeypatch, capsys):
    def connect(*_):
        raise AssertionError("Ray was started")

    damage(run_dir)
    monkeypatch.setattr("actors.ray_pool.connect", connect)
    capsys.readouterr()
    assert main(["train", "--resume", str(run_dir)]) == 2
    said = capsys.readouterr().err
    assert "no readable checkpoint" in said and said.count("\n") == 1


def start(*words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "scripts.cli", "train", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


@pytest.fixture
def processes():
    """Started processes, ended with the test however it ends."""
    started: list[subprocess.Popen] = []
    yield started
    for process in started:
        process.kill()
        process.wait(timeout=30)


def wait_for(condition, process: subprocess.Popen, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_signal_saves_and_kill_loses_only_what_came_after_the_last_checkpoint(tmp_path, processes):
    run_dir = tmp_path / "run"
    endless = ["--run-dir", str(run_dir), "--frames", "100000000", "--checkpoint.seconds", "1"]
    processes.append(start(*TINY, *endless))
    checkpoints = Checkpointer(run_dir / "checkpoints")
    wait_for(lambda: (checkpoints.latest_step() or 0) > 0, processes[-1])
    processes[-1].send_signal(signal.SIGKILL)
    processes[-1].communicate(timeout=30)
    saved = Checkpointer(run_dir / "checkpoints").latest_step()

    processes.append(start("--resume", str(run_dir)))
    wait_for(lambda: any(line["inner_updates"] > saved + 50 for line in metrics(run_dir)), processes[-1])
    processes[-1].send_signal(signal.SIGINT)
    _, said = processes[-1].communicate(timeout=60)
    assert processes[-1].returncode == 128 + signal.SIGINT  # not 0: it is not finished
    last = Checkpointer(run_dir / "checkpoints").latest_step()
    assert last > saved and f"saved at update {last}" in said and f"onelife train --resume {run_dir}" in said
    updates = [line["inner_updates"] for line in metrics(run_dir)]
    # One history, without a gap or a repeat, and a line for where it stopped.
    assert updates == sorted({*range(4, last + 1, 4), last})
    assert f"resumed at update {saved}" in (run_dir / "events.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_life_that_a_signal_stops_is_saved_and_does_not_pass_for_finished(tmp_path, monkeypatch, capsys, number):
    run_dir = tmp_path / "run"

    def write(self, line, write=MetricsLogger.write):
        write(self, line)
        signal.raise_signal(number)

    with monkeypatch.context() as patched:
        patched.setattr(MetricsLogger, "write", write)
        words = ["train", *TINY, "--run-dir", str(run_dir), "--frames", str(8 * UPDATE)]
        assert main(words) == 128 + number
    assert f"continue with: onelife train --resume {run_dir}" in capsys.readouterr().err
    assert final_state(run_dir)[0] == 4
    assert main(["train", "--resume", str(run_dir)]) == 0


@pytest.mark.slow
def test_a_short_life_on_real_atari(tmp_path):
    """The default preset, but small; then its resumption, which re-enters the environments and says so."""
    run_dir = tmp_path / "pong"
    words = f"--streams 4 --unroll 5 --log.updates 2 --log.tensorboard false --frames 400 --run-dir {run_dir}"
    assert main(["train", *words.split()]) == 0
    lines = metrics(run_dir)
    needed = ["inner_updates", "agent_steps", "env_frames", "episode_return_mean", "episodes", "policy_lag"]
    needed += [f"meta/{name}" for name in ("gamma", "trace_lambda", "alpha")]
    needed += [f"meta/{name}_weight" for name in ("policy", "value", "entropy")]
    needed += [f"meta_grad/{name}" for name in ("norm", "direct_norm", "correction_norm", "cosine", "snr")]
    needed += ["loss/policy", "loss/value", "loss/entropy"]
    assert set(needed) <= lines[-1].keys()
    assert lines[-1]["env_frames"] == 4 * lines[-1]["agent_steps"] == 400
    assert lines[-1]["meta_grad/norm"] > 0 and lines[-1]["meta/gamma"] != lines[0]["meta/gamma"]
    assert main(["train", "--resume", str(run_dir), "--frames", "800"]) == 0
    assert metrics(run_dir)[-1]["env_frames"] == 800
    assert "environments cannot be restored" in (run_dir / "events.log").read_text()
    assert (run_dir / "report.html").exists()


def test_a_run_that_cannot_go_on_says_why_in_one_line(tmp_path, capsys):
    run_dir = tmp_path / "run"
    run(run_dir, "--frames", str(8 * UPDATE))
    said = capsys.readouterr().err
    assert said.startswith(f"onelife: stac on catch, seed 0, {jax.default_backend()}, in {run_dir}\n")
    assert f"draw it with: onelife report {run_dir}" in said
    assert not (run_dir / "report.html").exists()
    damage(run_dir)
    assert main(["train", "--resume", str(run_dir)]) == 2
    said = capsys.readouterr().err
    assert "no readable checkpoint" in said and said.count("\n") == 1


def test_a_life_is_not_ended_before_where_it_is(tmp_path, capsys):
    run_dir = tmp_path / "run"
    run(run_dir, "--frames", str(8 * UPDATE))
    before, lived = (run_dir / "config.json").read_text(), metrics(run_dir)[-1]["env_frames"]
    capsys.readouterr()
    assert main(["train", "--resume", str(run_dir), "--frames", "10"]) == 2
    said = f"--frames: 10 is below the {lived} frames that {run_dir} has lived; give more, or leave it out"
    assert capsys.readouterr().err == f"onelife: {said}\n"
    assert (run_dir / "config.json").read_text() == before
    assert main(["train", "--resume", str(run_dir)]) == 0  # there is nothing left, and nothing wrong


def test_that_a_life_is_too_short_is_said_of_new_ones(tmp_path):
    run_dir = tmp_path / "run"
    run(run_dir, "--frames", str(2 * UPDATE))
    assert main(["train", "--resume", str(run_dir), "--frames", str(3 * UPDATE)]) == 0
    assert (run_dir / "events.log").read_text().count("η will not move") == 1


def test_a_life_without_a_checkpoint_begins_anew_and_keeps_its_old_log(tmp_path, capsys):
    run_dir = tmp_path / "run"
    run(run_dir, "--frames", str(8 * UPDATE))
    old = (run_dir / "metrics.jsonl").read_bytes()
    shutil.rmtree(run_dir / "checkpoints")
    config = json.loads((run_dir / "config.json").read_text())
    del config["network"]["lstm"]  # as an older version might have left it
    (run_dir / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    assert main(["train", "--resume", str(run_dir)]) == 0
    assert "is the default: network.lstm = 0" in (run_dir / "events.log").read_text()
    assert "lstm" in json.loads((run_dir / "config.json").read_text())["network"]
    assert "event: no checkpoint: begins anew; the old log is kept as metrics-1.jsonl" in capsys.readouterr().err
    assert (run_dir / "metrics-1.jsonl").read_bytes() == old
    assert metrics(run_dir)[0]["inner_updates"] == 4


@pytest.mark.parametrize("earlier", [True, False])
def test_a_last_state_that_cannot_be_saved_is_not_said_to_be(tmp_path, monkeypatch, capsys, earlier):
    run_dir, start_save = tmp_path / "run", Checkpointer._start_save

    def fail(self, step, *state):
        if not earlier or self.latest_step():
            raise OSError("No space left on device")
        return start_save(self, step, *state)

    monkeypatch.setattr(Checkpointer, "_start_save", fail)
    words = ["--run-dir", str(run_dir), "--frames", str(8 * UPDATE), "--checkpoint.seconds", "0.001"]
    assert main(["train", *TINY, *words]) == 1
    said = capsys.readouterr().err.splitlines()
    assert ("continue with: onelife train --resume" in said[-1]) == earlier
    assert ("no checkpoint to go on from" in said[-1]) != earlier
    assert any("the last good one stays" in line for line in said) == earlier


def test_a_life_that_has_diverged_is_not_said_to_go_on(tmp_path, capsys):
    run_dir = tmp_path / "run"
    words = ["--run-dir", str(run_dir), "--optimizer.name", "sgd", "--optimizer.learning-rate", "1e30"]
    assert main(["train", *TINY, *words, "--log.max-nonfinite", "3"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "start again with a smaller --optimizer.learning-rate" in last and f"is kept in {run_dir}" in last
    assert "--resume" not in last


@pytest.mark.parametrize("readable", [True, False])
def test_out_of_memory_is_one_line_and_keeps_what_can_be_read(tmp_path, monkeypatch, capsys, readable):
    run_dir, step = tmp_path / "run", Learner.step
    exhausted = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating\n9 bytes.")

    def fail(self, state, *rest):
        if state.inner_updates == 5:
            raise exhausted
        return step(self, state, *rest)

    def saved(self, state):
        raise exhausted

    monkeypatch.setattr(Learner, "step", fail)
    if not readable:
        monkeypatch.setattr(Learner, "saved", saved)
    assert main(["train", *TINY, "--run-dir", str(run_dir)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert "Traceback" not in "".join(said)
    assert said[-1] == (
        "onelife: out of memory (RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes); start again with less of"
        " --streams 4, --unroll 5, --window 3; or use --meta-gradient.linearization rebuild"
        + ("; the state of update 5 is kept" if readable else "")
    )
    assert any("the last state could not be saved" in line for line in said) != readable
    assert "stopped: out of memory" in (run_dir / "events.log").read_text()


def test_a_wide_network_may_be_what_memory_does_not_suffice_for():
    narrow, wide = (override(preset("smoke"), {"network.hidden": (64, width)}) for width in (64, 60_000))
    assert "--network.hidden" not in _less_memory(narrow, None)
    assert "--window 4, --network.hidden 64 60000" in _less_memory(wide, None)


def test_what_ended_a_life_is_part_of_a_line(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise TrainingStopped("Out of memory allocating\n9 bytes.")

    monkeypatch.setattr(Learner, "step", fail)
    assert main(["train", *TINY, "--run-dir", str(tmp_path / "run")]) == 1
    assert "onelife: Out of memory allocating 9 bytes; start again" in capsys.readouterr().err


def test_a_linear_agent_is_told(tmp_path):
    words = [word for word in TINY if word not in ("--network.hidden", "8")]
    words += ["--frames", str(2 * UPDATE), "--run-dir", str(tmp_path / "run"), "--network.hidden"]
    assert main(["train", *words]) == 0
    assert "--network.hidden has no value: policy and critic are linear" in (tmp_path / "run/events.log").read_text()


def test_other_errors_of_the_device_are_not_taken_for_it(tmp_path, monkeypatch):
    def fail(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    monkeypatch.setattr(Learner, "step", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        main(["train", *TINY, "--run-dir", str(tmp_path / "run")])


def test_checkpoint_of_another_config_is_refused_in_one_line(tmp_path, capsys):
    run_dir = tmp_path / "run"
    run(run_dir, "--frames", str(8 * UPDATE))
    config = json.loads((run_dir / "config.json").read_text())
    config["network"]["hidden"] = [16]
    (run_dir / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    assert main(["train", "--resume", str(run_dir)]) == 2
    said = capsys.readouterr().err
    assert "another config or version" in said and said.count("\n") == 1


def test_a_learned_rule_trains_a_new_agent_elsewhere(tmp_path):
    """From a file, on another game than it was made for; η is empty, and the rule stays as it is."""
    save_rule(tmp_path / "rule.npz", rule_network(4, predictions=3, hidden=4, embedding=2).init(jax.random.key(0)))
    words = ["--rule", str(tmp_path / "rule.npz"), "--game", "two_colors", "--network.hidden", "8", "--streams", "4"]
    words += [
        "--unroll",
        "5",
        "--frames",
        "200",
        "--log.updates",
        "2",
        "--log.tensorboard",
        "false",
        "--log.report",
        "false",
    ]
    assert main(["train", "catch_lpg", *words, "--run-dir", str(tmp_path / "run")]) == 0
    last = metrics(tmp_path / "run")[-1]
    assert last["agent_steps"] >= 200 and np.isfinite(last["loss/rule_policy"])
    assert all(value is None for name, value in last.items() if name.startswith("meta_grad/"))
    (tmp_path / "rule.npz").unlink()  # the run has its own
    assert main(["train", "--resume", str(tmp_path / "run"), "--frames", "300"]) == 0
    assert metrics(tmp_path / "run")[-1]["agent_steps"] >= 300
