"""The command line as a user meets it: what it refuses, and with which words."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from configs.experiment import ExperimentConfig, to_json
from configs.presets import PRESETS, preset, summary
from configs.tree import leaves, override
from scripts.cli import main
from scripts.parse import parse_resume, parse_train, read_run


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_in(folder, config=None):
    """A folder that looks like a run's."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(to_json(config or ExperimentConfig())))
    return str(folder)


def refused(capsys, words):
    """The one line with which `onelife WORDS` is refused."""
    assert main(words.split() if isinstance(words, str) else words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"onelife: [^\n]+\n", err), err
    return err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "trian",
            "trian: unknown command; choose from train, evaluate, report, compare, presets, study, bench, doctor; did",
        ),
        ("--window 3", "--window: unknown command"),
        ("train smoek", "preset: 'smoek' is unknown; choose from atari_impala,"),
        ("train smoek", "did you mean smoke?"),
        ("train --netwrok.lstm 3", "--netwrok.lstm: unknown setting; did you mean --network.lstm?"),
        ("train catch_lpg --rule nowhere.npz", "--lpg.rule: 'nowhere.npz' is missing: there is no such file"),
        ("train --lstm 3", "--lstm: unknown setting; did you mean --network.lstm?"),
        ("train --gamma 3", "did you mean --inner.gamma or --outer.gamma or --meta-init.gamma?"),
        ("train --gama 3", "did you mean --inner.gamma or --outer.gamma or --meta-init.gamma?"),
        ("train --learning-rte 3", "did you mean --optimizer.learning-rate or --meta-optimizer.learning-rate?"),
        ("train --resum here", "--resum: unknown setting; did you mean --resume?"),
        ("train --Steams 3", "did you mean --streams?"),
        ("train --preset smoke", "--preset: unknown setting; a preset is given by its name alone, before every --key"),
        ("train --agent maml", "--agent: maml takes many lives, each of one window"),
        ("train smoke --agent maml --window 0", "--agent: maml takes many lives"),
        ("train --agent losses", "--agent: 'losses' is no agent: agents/losses.py defines no agent(spec, settings)"),
        ("train --agent ../x", "--agent: '../x' is unknown; choose from bandit, impala"),
        ("train --zzzzzz", "--zzzzzz: unknown setting; see onelife train --help"),
        ("train --seed 1 smoke", "smoke: unexpected; a preset comes first, before every --key"),
        ("train smoke window 3", "window: unexpected; settings are given as --key value"),
        ("train --streams many", "--streams: 'many' is not an integer"),
        ("train --streams", "--streams: a value is missing"),
        ("train --streams --seed 1", "--streams: a value is missing"),
        ("train --streams=", "--streams: '' is not an integer"),
        ("train --frames 1e6", "--frames: '1e6' is not an integer (write 1000000)"),
        ("train --frames 0", "--frames: 0 is not allowed; it must be 1 or more"),
        ("train --unroll 0", "--unroll: 0 is not allowed"),
        ("train --window -1", "--window: -1 is not allowed"),
        ("train --streams 0", "--streams: 0 is not allowed"),
        ("train --actors 0", "--actors: 0 is not allowed; it must be in [1, 1024]"),
        ("train --seed -1", "--seed: -1 is not allowed"),
        ("train smoke --correction -0.5", "--correction: -0.5 is not allowed; it must be 0 or more"),
        ("train smoke --correction nan", "--correction: nan is not a finite number"),
        ("train smoke --correction -inf", "--correction: -inf is not a finite number"),
        ("train --correction 0.1", "--correction: 0.1 has no effect with --window 1"),
        ("train smoke --correction-discount 0", "--correction-discount: 0.0 is not allowed; it must be in (0, 1]"),
        ("train --inner.gamma 1.01", "--inner.gamma: 1.01 is not allowed; it must be in [0, 1]"),
        ("train --optimizer.b1 1", "--optimizer.b1: 1.0 is not allowed; it must be in [0, 1)"),
        ("train --meta-gradient.trace-decay 2", "--meta-gradient.trace-decay: 2.0 is not allowed"),
        ("train --meta_gradient.trace_decay 2", "--meta-gradient.trace-decay: 2.0 is not allowed"),
        (
            "train --agent staac",
            "--agent: 'staac' is unknown; choose from bandit, impala",
        ),
        ("train --game pongg", "--game: unknown game 'pongg'"),
        ("train --game pongg", "did you mean pong?"),
        (
            "train --network.torso impala",
            "--network.torso: 'impala' is unknown; choose from mlp, ",
        ),
        ("train --network.torso impala", "did you mean impala_"),
        ("train --network.hidden 64 x", "--network.hidden: 'x' is not an integer"),
        ("train --network.hidden 64,64", "--network.hidden: '64,64' is one word (write 64 64)"),
        ("train --game atari:catch", "--game: unknown game 'atari:catch': catch is not of Atari; write catch"),
        ("train --rule /etc/passwd --agent lpg", "'/etc/passwd' holds no rule: it is not a .npz file"),
        ("train --lag 2", "--lag: '2' is unknown; choose from 0, 1, free"),
        ("train --meta-gradient.differentiation rev", "'rev' is unknown; choose from reverse, trace"),
        ("train --log.tensorboard maybe", "--log.tensorboard: 'maybe' is not True or False"),
        ("train --game catch", "--network.torso: impala_shallow needs images"),
        ("train --streams 33 --actors 2", "--streams: 33 do not divide over --actors 2; nearest: 32 or 34"),
        ("train --ray.address auto", "--ray.address: 'auto' has no effect with --runtime collapsed"),
        ("train --resume", "--resume: a value is missing"),
        ("train --resume=", "--resume: a value is missing"),
        ("train --frames 1 --frames=2", "--frames: given twice"),
        ("train --resume a --resume b", "--resume: given twice"),
        ("evaluate a --streams 1 --streams 2", "--streams: given twice"),
        ("train --resume nowhere", "--resume: nowhere is not a directory"),
        ("train --resume=nowhere", "--resume: nowhere is not a directory"),
        ("presets extra", "extra: unexpected; see onelife presets --help"),
        ("doctor --rya", "--rya: unknown option of onelife doctor; did you mean --ray?"),
        ("doctor --ra", "--ra: unknown option of onelife doctor; did you mean --ray?"),
        ("report", "report: the following arguments are required: RUN_DIR"),
    ],
)
def test_bad_input_gets_one_line(here, capsys, words, message):
    assert message in refused(capsys, words)
    assert list(here.iterdir()) == []  # and nothing was started


def test_run_directories_that_cannot_be_used(here, capsys):
    run = run_in(here / "run")
    (here / "full").mkdir()
    (here / "full" / "notes.txt").touch()
    (here / "file").touch()
    assert f"--run-dir: '{run}' exists and is not empty; continue it with --resume {run}" in refused(
        capsys, ["train", "smoke", "--run-dir", run]
    )
    line = refused(capsys, "train smoke --run-dir full")
    assert "--run-dir: 'full' exists and is not empty" in line
    assert "--resume" not in line
    assert "--run-dir: 'file' cannot be made" in refused(capsys, "train smoke --run-dir file")
    assert "--run-dir: 'file/below/it' cannot be made" in refused(capsys, "train smoke --run-dir file/below/it")
    assert "cannot be written (File name too long)" in refused(capsys, ["train", "--run-dir", 300 * "x"])
    # /proc takes no new files, not even root's.
    assert "--run-dir: '/proc/run' cannot be written" in refused(capsys, "train smoke --run-dir /proc/run")


def test_the_place_of_unnamed_runs_is_checked_too(here, capsys):
    (here / "runs").touch()
    assert "--run-dir: 'runs' cannot be made" in refused(capsys, "train smoke")


def test_what_cannot_be_resumed(here, capsys):
    run = run_in(here / "run")
    (here / "empty").mkdir()
    (here / "broken").mkdir()
    (here / "broken" / "config.json").write_text("{")
    (here / "newer").mkdir()
    (here / "newer" / "config.json").write_text(json.dumps(to_json(ExperimentConfig()) | {"mood": 1}))
    assert "--resume: empty is not a run directory (it has no config.json)" in refused(capsys, "train --resume empty")
    assert "--resume: broken/config.json is damaged" in refused(capsys, "train --resume broken")
    unknown = "--resume: newer: settings of another version of onelife: unknown mood"
    assert unknown in refused(capsys, "train --resume newer")
    assert "--seed: cannot be given with --resume" in refused(capsys, ["train", "--resume", run, "--seed", "3"])
    assert "smoke: cannot be given with --resume" in refused(capsys, ["train", "smoke", "--resume", run])
    assert "--frames: 'far' is not an integer" in refused(capsys, ["train", "--resume", run, "--frames", "far"])
    assert "--frames: -5 is not allowed" in refused(capsys, ["train", "--resume", run, "--frames", "-5"])


def test_resume_takes_frames_alone(here):
    run = run_in(here / "run")
    assert parse_resume(["--resume", run]) == (run, {})
    assert parse_resume([f"--resume={run}", "--frames", "900"]) == (run, {"frames": 900})
    assert parse_resume(["--frames=900", "--resume", run]) == (run, {"frames": 900})
    assert parse_resume(["smoke", "--frames", "900"]) is None


def test_a_run_of_an_older_version_is_read_with_a_line(here, capsys):
    run = run_in(here / "run")
    assert read_run(run, "RUN_DIR") == ExperimentConfig() and capsys.readouterr().err == ""
    old = to_json(ExperimentConfig())
    del old["inner"]["gamma"]
    (here / "run" / "config.json").write_text(json.dumps(old))
    assert read_run(run, "RUN_DIR") == ExperimentConfig()
    said = capsys.readouterr().err
    assert said.startswith(f"onelife: {run}: settings of an older version") and said.count("\n") == 1
    assert said.endswith("is the default: inner.gamma = 0.99\n")


def test_settings_reach_the_tree():
    words = "smoke --seed 3 --correction=1 --network.hidden 8 9 --lag 0 --log.tensorboard false --run_dir a=b"
    config = parse_train([*words.split(), "--meta-init.gamma", "-4.6"])
    assert (config.seed, config.correction, config.network.hidden, config.lag) == (3, 1.0, (8, 9), "0")
    assert (config.log.tensorboard, config.run_dir, config.meta_init.gamma) == (False, "a=b", -4.6)
    assert config.optimizer == preset("smoke").optimizer
    assert parse_train(["--network.torso", "mlp", "--network.hidden"]).network.hidden == ()
    assert parse_train([]) == preset("atari_stac")


def test_every_setting_can_be_set_to_its_own_value():
    config = preset("smoke")
    words = ["atari_stac"]
    for setting in leaves(config):
        values = setting.value if isinstance(setting.value, tuple) else (setting.value,)
        words += [setting.flag, *map(str, values)]
    assert parse_train(words) == config


def test_help_shows_every_setting_and_the_presets_values(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "260")
    assert main(["train", "smoke", "--help"]) == 0
    shown = capsys.readouterr().out
    for setting in leaves(preset("smoke")):
        assert f"{setting.flag} " in shown
    assert "(default: catch)" in shown


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_names_the_commands(capsys, words):
    assert main(words) == 0
    out, err = capsys.readouterr()
    for command in ("train", "train --resume", "evaluate", "report", "presets", "doctor", "--version"):
        assert f"onelife {command}" in out
    assert err == ""


def test_version(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"onelife \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_presets_are_listed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["presets"]) == 0
    shown = capsys.readouterr().out
    rows = {line.split()[0]: line for line in shown.split("\n\n")[0].splitlines()}
    for name, make in PRESETS.items():
        config = make()
        row = set(rows[name].split())
        assert {config.agent, config.game, str(config.window), f"{config.correction:g}"} <= row, name
        assert summary(name) in " ".join(shown.split()) and "Source: " in summary(name), name
    for name, tuned in {"atari_impala": "nothing", "atari_mgrl": "γ λ", "atari_stac": "γ λ α g_p g_v g_e"}.items():
        assert f" {tuned} " in rows[name], name
    assert rows["preset"].split()[-2:] == ["corr.", "λ"]  # not V-trace's, which is among the self-tuned
    assert "bootstrap, L = 4" in rows["atari_bmg"] and "x 3" in rows["atari_bmg"]


def test_a_preset_that_cannot_be_is_named(capsys, monkeypatch):
    monkeypatch.setitem(PRESETS, "mine", lambda: override(preset("smoke"), {"agent": "stak"}))
    assert "preset mine: --agent: 'stak' is unknown" in refused(capsys, "presets")


def test_nothing_heavy_is_imported_before_the_input_is_right(tmp_path):
    program = """
import sys
from scripts.cli import main
codes = [main(words.split()) for words in (
    "--help", "--version", "train --help", "train --windwo 3", "train --game pongg", "train --agent x",
    "train --resume nowhere", "train smoke --correction -1", "train --run-dir /proc/run")]
heavy = [name for name in ("jax", "haiku", "optax", "rlax", "ray", "envpool", "orbax") if name in sys.modules]
print("END", codes, heavy)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "END [0, 0, 0, 2, 2, 2, 2, 2, 2] []", done.stderr
    assert len(done.stderr.splitlines()) == 6


def piped(command, *words, **environment):
    """(exit code, stderr) of `onelife WORDS | COMMAND`."""
    onelife = shlex.join([sys.executable, "-m", "scripts.cli", *words])
    done = subprocess.run(
        ["bash", "-c", f"{onelife} | {command}; exit ${{PIPESTATUS[0]}}"],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", ["doctor", "presets", "--help"])
def test_where_nobody_reads_on_it_ends_quietly(command):
    assert piped("exec 0<&-", command) == (141, "")


def test_a_broken_pipe_of_its_own_is_not_hidden(monkeypatch):
    def broken(words):
        raise BrokenPipeError("to an actor")

    monkeypatch.setattr("scripts.doctor.main", broken)
    with pytest.raises(BrokenPipeError), Path(os.devnull).open("w") as out, contextlib.redirect_stdout(out):
        main(["doctor"])


@pytest.mark.parametrize("words", ["train smoke", "evaluate run", "study nodice_fig1 --out here", "bench memory"])
def test_a_backend_that_is_not_there_is_one_line(here, words):
    run_in(here / "run", preset("smoke"))
    code, said = piped("cat", *words.split(), JAX_PLATFORMS="bogus", PYTHONPATH=str(Path(__file__).parents[2]))
    last = said.splitlines()[-1]
    assert code == 2 and "Traceback" not in said
    assert last.startswith("onelife: JAX: Unable to initialize backend 'bogus'") and last.endswith("see onelife doctor")


def test_as_a_process(tmp_path):
    command = [sys.executable, "-m", "scripts.cli", "train", "--streams", "many"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "onelife: --streams: 'many' is not an integer\n")
