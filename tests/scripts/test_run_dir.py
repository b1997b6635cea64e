import concurrent.futures
import datetime
import json
import os
import signal
import subprocess
import sys

import pytest

from scripts.run_dir import RunDirectory, RunDirectoryError, new_directory, read_config

HOLD = """
import sys, time
from scripts.run_dir import RunDirectory
run = RunDirectory.create(sys.argv[1], {"seed": 1})
print("held", flush=True)
time.sleep(60)
"""


def test_a_new_run_says_what_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/onelife", "train", "smoke", "--run-dir", "a b"])
    with RunDirectory.create(tmp_path / "deep" / "run", {"seed": 3}, ["cpu:0 (a processor)"]) as run:
        run.event("actor 1 was lost")
        assert run.checkpoints == tmp_path / "deep" / "run" / "checkpoints"
    assert read_config(run.path) == {"seed": 3}
    command = dict(line.split(maxsplit=1) for line in (run.path / "command.txt").read_text().splitlines())
    assert command["command"] == "onelife train smoke --run-dir 'a b'"
    assert command["python"] == sys.version.split()[0]
    assert f"jax=={__import__('jax').__version__}" in command["packages"].split()
    assert command["devices"] == "cpu:0 (a processor)"
    assert "cores" in command["host"]
    assert len(command["git"].split()[0]) == 40 or command["git"] == "not in a git checkout"
    time, message = (run.path / "events.log").read_text().split(maxsplit=1)
    assert abs((datetime.datetime.now().astimezone() - datetime.datetime.fromisoformat(time)).total_seconds()) < 60
    assert message == "actor 1 was lost\n"


def test_the_default_directory_names_agent_game_seed_and_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = new_directory("stac", "atari:ms_pacman", 7)
    assert path.parent.name == "runs" and path.is_dir()
    name, time = str(path.name).split("-7-")
    assert name == "stac-ms_pacman"
    datetime.datetime.strptime(time, "%Y%m%d-%H%M%S")


def test_runs_that_start_at_once_have_directories_of_their_own(tmp_path, monkeypatch):
    class Noon(datetime.datetime):
        @classmethod
        def now(cls):
            return cls(2030, 1, 2, 12)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scripts.run_dir.datetime.datetime", Noon)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: new_directory("stac", "catch", 0).name, range(8)))
    first = "stac-catch-0-20300102-120000"
    assert sorted(made) == [first, *(f"{first}-{number}" for number in range(2, 9))]
    for name in made:
        RunDirectory.create(tmp_path / "runs" / name, {}).close()


def test_a_default_directory_that_cannot_be_made_gets_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").touch()
    assert refused(new_directory, "stac", "catch", 0) == "--run-dir: runs is not a directory"


def test_resume_appends_the_command_and_config_can_be_replaced(tmp_path):
    RunDirectory.create(tmp_path, {"frames": 1}).close()
    with RunDirectory.resume(tmp_path) as run:
        run.write_config({"frames": 2})
    assert read_config(tmp_path) == {"frames": 2}
    assert (tmp_path / "command.txt").read_text().count("\ncommand ") == 2
    assert sorted(os.listdir(tmp_path)) == ["command.txt", "config.json", "lock"]


def refused(action, *args):
    with pytest.raises(RunDirectoryError) as error:
        action(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_directories_that_cannot_be_used_are_refused_in_one_line(tmp_path):
    RunDirectory.create(tmp_path / "run", {}).close()
    assert "already holds a run; go on with it by `onelife train --resume" in refused(
        RunDirectory.create, tmp_path / "run", {}
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    assert "is not empty (it has thesis.tex)" in refused(RunDirectory.create, tmp_path / "full", {})
    assert "cannot be written: Not a directory" in refused(
        RunDirectory.create, tmp_path / "full" / "thesis.tex" / "run", {}
    )
    assert "is not a run directory (it has no config.json)" in refused(RunDirectory.resume, tmp_path / "full")
    assert "is not a directory" in refused(RunDirectory.resume, tmp_path / "nowhere")
    (tmp_path / "run" / "config.json").write_text('{"seed": ')
    assert "config.json is damaged" in refused(RunDirectory.resume, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text("[]")
    assert "config.json is damaged" in refused(RunDirectory.resume, tmp_path / "run")


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="needs a place that even root cannot write")
def test_an_unwritable_place_is_refused_in_one_line():
    assert "--run-dir: /proc/runs cannot be written" in refused(RunDirectory.create, "/proc/runs", {})


def test_only_one_process_at_a_time_and_no_stale_lock_after_kill_nine(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        assert f"is in use by process {process.pid} on" in refused(RunDirectory.resume, tmp_path)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    with RunDirectory.resume(tmp_path):
        assert f"is in use by process {os.getpid()} on" in refused(RunDirectory.resume, tmp_path)
    RunDirectory.resume(tmp_path).close()
    assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 1}
