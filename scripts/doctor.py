"""`onelife doctor`: what this machine and this installation can do, and what to install where something is missing."""

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from configs.tree import ConfigError
from scripts.parse import Parser, check_run_dir

ROOT = Path(__file__).resolve().parents[1]
OURS = ("agents", "actors", "learner", "configs", "scripts")
INSTALL = "pip install -e ."


class Finding(NamedTuple):
    """One line of the report: status ok, note (works, but look) or FAILED; advice says what to do, "" for nothing."""

    status: str
    what: str
    advice: str = ""


def python() -> Iterator[Finding]:
    version = platform.python_version()
    supported = (3, 11) <= sys.version_info < (3, 14)
    yield Finding("ok" if supported else "FAILED", f"Python {version}", "" if supported else "use Python 3.11 to 3.13")
    machine = f"{platform.system()} {platform.machine()}"
    if machine != "Linux x86_64":
        yield Finding("note", machine, "only Linux on x86-64 is supported; EnvPool may be missing elsewhere")
    yield Finding("ok", f"{len(os.sched_getaffinity(0))} CPU cores")


def packages() -> Iterator[Finding]:
    try:
        requirements = metadata.requires("onelife") or []
    except metadata.PackageNotFoundError:
        yield Finding("FAILED", "onelife is not installed", f"{INSTALL} in {ROOT}")
        return
    for requirement in requirements:
        if ";" not in requirement:  # what follows a semicolon are the extras
            yield package(requirement)
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        yield Finding("note", "no imageio[ffmpeg]: evaluate --video does not work", "pip install -e '.[video]'")


def package(requirement: str) -> Finding:
    """`name>=low,<high` against what is installed."""
    from packaging.requirements import Requirement  # where it is missing that is a finding, too

    wanted = Requirement(requirement)
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return Finding("FAILED", f"{wanted.name} is not installed", INSTALL)
    if not wanted.specifier.contains(version, prereleases=True):
        return Finding("FAILED", f"{wanted.name} {version} is not {wanted.specifier}", INSTALL)
    return Finding("ok", f"{wanted.name} {version}")


def folders() -> Iterator[Finding]:
    """Whether `import agents` and the others find this checkout, or another package of that name."""
    shadowed = False
    for name in OURS:
        spec = importlib.util.find_spec(name)
        places = [Path(place).resolve() for place in (spec.submodule_search_locations or [])] if spec else []
        if places[:1] != [ROOT / name]:
            shadowed = True
            found = spec.origin if spec else "nothing"
            advice = f"another package shadows it: use a fresh virtual environment, then {INSTALL} in {ROOT}"
            yield Finding("FAILED", f"import {name} finds {found}", advice)
    if not shadowed:
        yield Finding("ok", f"source in {ROOT}")


def disk() -> Iterator[Finding]:
    try:
        check_run_dir("")
    except ConfigError as error:
        yield Finding("FAILED", str(error), "start onelife in a directory that you can write to, or use --run-dir DIR")
        return
    free = shutil.disk_usage(".").free / 2**30
    low = free < 2
    yield Finding("note" if low else "ok", f"{free:.1f} GiB free for runs/", "little for checkpoints" if low else "")


def ray_cluster() -> Iterator[Finding]:
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    import ray

    start = time.monotonic()
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        process = ray.get(ray.remote(lambda: os.getpid()).remote(), timeout=60)
    finally:
        ray.shutdown()
    yield Finding("ok", f"Ray: a local cluster ran a task in process {process} ({time.monotonic() - start:.0f} s)")


def ray_import() -> Iterator[Finding]:
    import ray

    yield Finding("ok", f"Ray {ray.__version__} imports (--ray starts a local cluster too)")


def devices() -> Iterator[Finding]:
    import jax

    found = jax.devices()
    kinds = ", ".join(sorted({device.device_kind for device in found}))
    yield Finding("ok", f"JAX sees {len(found)} {found[0].platform} device{'s' * (len(found) > 1)} ({kinds})")
    if found[0].platform != "cpu":
        return
    if Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi"):
        advice = "pip install -e '.[cuda]' (or '.[cuda12]' for an older driver)"
        yield Finding("note", "an NVIDIA GPU is here, but JAX does not use it", advice)
    if list(Path("/dev").glob("accel[0-9]*")):
        yield Finding("note", "a TPU is here, but JAX does not use it", "pip install -e '.[tpu]'")


def envpool() -> Iterator[Finding]:
    import numpy as np

    from actors.config import EnvironmentConfig
    from actors.environments.make import make_environment

    environment = make_environment("atari:pong", EnvironmentConfig(), seeds=[0, 1], threads=1)
    try:
        environment.reset()
        for _ in range(10):
            timestep = environment.step(np.zeros(2, np.int32))
    finally:
        environment.close()
    yield Finding("ok", f"EnvPool stepped 2 streams of Pong, observations {timestep.observation.shape}")


def self_check() -> Iterator[Finding]:
    """A real, tiny run of the smoke preset: actors, window, meta-gradient, checkpoint, logs."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [sys.executable, "-m", "scripts.cli", "train", "smoke", "--run-dir", str(run_dir)]
        command += [
            "--frames",
            "5120",
            "--streams",
            "8",
            "--unroll",
            "10",
            "--log.updates",
            "4",
            "--log.report",
            "false",
        ]
        start = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            advice = "onelife train smoke shows the whole error"
            yield Finding("FAILED", f"self-check ended with {done.returncode}: {lines[-1]}", advice)
            return
        last = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    updates, seconds = last["inner_updates"], time.monotonic() - start
    yield Finding("ok", f"self-check: STAC learnt on Catch for {updates} updates ({seconds:.0f} s, start included)")


def main(args: list[str]) -> int:
    """Prints what it finds, line by line. Returns 0, or 1 where something failed."""
    parser = Parser("onelife doctor", "Checks this machine and this installation.")
    parser.add_argument("--ray", action="store_true", help="start a local Ray cluster too (takes some seconds)")
    options = parser.parse_args(args)
    # Ray comes before JAX, which starts threads that a later fork of Ray's would copy.
    ray = ray_cluster if options.ray else ray_import
    return report([python, packages, folders, disk, ray, devices, envpool, self_check])


def report(checks: list[Callable[[], Iterator[Finding]]]) -> int:
    """Runs the checks and prints their findings. Returns 1 if any failed (an exception is a failure), else 0."""
    failed = 0
    for check in checks:
        try:
            for finding in check():
                failed += finding.status == "FAILED"
                show(finding)
        except Exception as error:  # whatever is broken here is what the user wants to be told
            failed += 1
            text = " ".join(str(error).split()) or type(error).__name__
            show(Finding("FAILED", f"{check.__name__}: {text}", INSTALL if isinstance(error, ImportError) else ""))
    print(f"\n{failed} failed" if failed else "\nAll is well.")
    return 1 if failed else 0


def show(finding: Finding) -> None:
    print(f"{finding.status:<7} {finding.what}", flush=True)
    if finding.advice:
        print(f"{'':<7}   -> {finding.advice}", flush=True)
