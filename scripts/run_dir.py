"""The run directory: what a run was, is and leaves behind. docs/run_directory.md describes every file."""

import datetime
import fcntl
import importlib.metadata
import itertools
import json
import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.tree import ConfigError

CONFIG = "config.json"
COMMAND = "command.txt"
CHECKPOINTS = "checkpoints"
EVENTS = "events.log"
LOCK = "lock"
RULE = "rule.npz"

_PACKAGES = ("jax", "jaxlib", "dm-haiku", "optax", "rlax", "envpool", "ray", "orbax-checkpoint", "numpy")


class RunDirectoryError(ConfigError):
    """A run directory that cannot be used. The message is one line."""


def new_directory(agent: str, game: str, seed: int) -> Path:
    """Makes runs/AGENT-GAME-SEED-TIME, the time to the second in the local clock, for this process alone.

    Runs that start in the same second have -2, -3, ... behind it. Raises RunDirectoryError if it cannot be made.
    """
    name = f"{agent}-{game.rpartition(':')[2]}-{seed}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    for number in itertools.count(1):
        path = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            path.parent.mkdir(exist_ok=True)
            path.mkdir()  # of several processes one succeeds
            return path
        except FileExistsError:
            if not path.parent.is_dir():
                raise RunDirectoryError(f"--run-dir: {path.parent} is not a directory") from None
        except OSError as error:
            raise RunDirectoryError(f"--run-dir: {path} cannot be written: {error.strerror}") from None


class RunDirectory:
    """A run directory held by this process, which alone may train in it until `close` or its end."""

    def __init__(self, path: Path, lock: int):
        self.path = path
        self._lock = lock

    @classmethod
    def create(cls, path: str | Path, config: dict[str, Any], devices: Sequence[str] = ()) -> "RunDirectory":
        """Makes the directory with config.json and command.txt, and with a copy of the learned rule that it uses.

        config: the settings as JSON. devices: what JAX computes on, in words. Raises RunDirectoryError if `path` holds
        anything already, is in use or cannot be written.
        """
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            others = sorted(entry.name for entry in path.iterdir() if entry.name != LOCK)
        except OSError as error:
            raise RunDirectoryError(f"--run-dir: {path} cannot be written: {error.strerror}") from None
        if CONFIG in others:
            raise RunDirectoryError(
                f"--run-dir: {path} already holds a run; go on with it by `onelife train --resume {path}`"
            )
        if others:
            raise RunDirectoryError(f"--run-dir: {path} is not empty (it has {others[0]}); choose a new directory")
        run = cls(path, _acquire(path))
        try:
            if _rule_of(config):
                shutil.copyfile(_rule_of(config), path / RULE)
            run.write_config(config)
            run._append(COMMAND, describe_process(devices))
        except OSError as error:
            run.close()
            raise RunDirectoryError(f"--run-dir: {path} cannot be written: {error.strerror}") from None
        return run

    @classmethod
    def resume(cls, path: str | Path, devices: Sequence[str] = ()) -> "RunDirectory":
        """Takes up an existing run and appends to its command.txt.

        Raises RunDirectoryError if `path` holds no run, is in use or cannot be written.
        """
        path = Path(path)
        read_config(path)
        run = cls(path, _acquire(path))
        try:
            run._append(COMMAND, "\n" + describe_process(devices))
        except OSError as error:
            run.close()
            raise RunDirectoryError(f"{path} cannot be written: {error.strerror}") from None
        return run

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    def write_config(self, config: dict[str, Any]) -> None:
        """Replaces config.json, atomically."""
        temporary = self.path / f".{CONFIG}"
        temporary.write_text(json.dumps(config, indent=2) + "\n")
        os.replace(temporary, self.path / CONFIG)

    def event(self, message: str) -> None:
        """Appends a line with the time to events.log; a full disk loses the line and nothing else."""
        try:
            self._append(EVENTS, f"{datetime.datetime.now().astimezone().isoformat(timespec='seconds')}  {message}\n")
        except OSError:
            sys.stderr.write(f"onelife: {EVENTS} cannot be written; the event was: {message}\n")

    def close(self) -> None:
        """Lets other processes train in the directory."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, name: str, text: str) -> None:
        with (self.path / name).open("a") as file:
            file.write(text)


def read_config(path: str | Path) -> dict[str, Any]:
    """The settings of the run in `path`, as JSON. Raises RunDirectoryError if there is no run or it is damaged."""
    path = Path(path)
    try:
        config = json.loads((path / CONFIG).read_text())
    except (FileNotFoundError, NotADirectoryError):
        what = "is not a run directory (it has no config.json)" if path.is_dir() else "is not a directory"
        raise RunDirectoryError(f"{path} {what}") from None
    except OSError as error:
        raise RunDirectoryError(f"{path / CONFIG} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RunDirectoryError(f"{path / CONFIG} is damaged: {error}") from None
    if not isinstance(config, dict):
        raise RunDirectoryError(f"{path / CONFIG} is damaged: it is not an object")
    if _rule_of(config) and (path / RULE).exists():  # the file it was copied from may have changed, or be gone
        config["lpg"]["rule"] = str(path / RULE)
    return config


def _rule_of(config: dict[str, Any]) -> str:
    """The file of the learned rule that a run's settings name, "" for none."""
    group = config.get("lpg")
    return str(group.get("rule") or "") if isinstance(group, dict) else ""


def describe_process(devices: Sequence[str] = ()) -> str:
    """Lines that say what runs here: time, command line, versions, git commit of the checkout, hardware."""
    lines = [
        ("time", datetime.datetime.now().astimezone().isoformat(timespec="seconds")),
        ("command", shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
        ("git", _git()),
        ("python", platform.python_version()),
        ("packages", " ".join(_versions())),
        ("host", f"{platform.system()} {platform.release()} {platform.machine()}, {_cores()} cores"),
        ("devices", ", ".join(devices)),
    ]
    return "".join(f"{name:9} {value}\n" for name, value in lines if value)


def _versions() -> list[str]:
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(f"{package}=={importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} missing")
    return versions


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _git() -> str:
    root = Path(__file__).resolve().parent.parent
    try:
        commit, status = (
            subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, timeout=10, check=True)
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return "not in a git checkout"
    return commit.stdout.strip() + (" with uncommitted changes" if status.stdout.strip() else "")


def _acquire(path: Path) -> int:
    """The open lock file. The kernel lets go of it when its process ends, however it ends: no stale locks."""
    try:
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(lock, 200).decode(errors="replace").strip() or "another process"
        os.close(lock)
        raise RunDirectoryError(f"{path} is in use by {owner}; two processes cannot train in one run") from None
    os.ftruncate(lock, 0)
    os.write(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return lock
