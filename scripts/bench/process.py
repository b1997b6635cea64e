"""A measurement in a process of its own."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from configs.tree import ConfigError


def run_to_end(name: str, command: list[str], seconds: float) -> str:
    """What the command printed; ConfigError, one line that begins with `name`, where it fails or takes longer.

    Whatever it has started ends with it.
    """
    shortened = " ".join([Path(command[0]).name, *command[1:4], "..."])
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    except OSError as error:
        raise ConfigError(f"{name}: {command[0]!r} does not run ({error.strerror})") from None
    try:
        said, complaints = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{name}: {shortened} took more than {seconds:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise ConfigError(f"{name}: {shortened} failed: {reason(complaints, process.returncode)}")
    return said


def reason(complaints: str, status: int) -> str:
    """The last line that a process which failed had to say on stderr."""
    return (complaints.strip().splitlines() or [f"no reason was given, exit status {status}"])[-1]
