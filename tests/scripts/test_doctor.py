import subprocess
import sys
from importlib import metadata

import pytest

from scripts.doctor import Finding, disk, folders, package, report


def test_package_versions():
    version = metadata.version("optax")
    assert package("optax") == Finding("ok", f"optax {version}")
    assert package("optax>=0.1,<99").status == "ok"
    assert package("optax<99,>=90") == Finding("FAILED", f"optax {version} is not <99,>=90", "pip install -e .")
    assert package("optax<0.1").what == f"optax {version} is not <0.1"
    assert package(f"optax>={version}.0").status == package(f"optax=={version}").status == "ok"
    assert package(f"optax!={version}").status == package(f"optax>={version}rc1,<{version}").status == "FAILED"
    assert package("no-such-package-of-onelife>=1").what == "no-such-package-of-onelife is not installed"


def test_a_package_that_shadows_ours_is_found(tmp_path, monkeypatch):
    assert [finding.status for finding in folders()] == ["ok"]
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "agents"]:
        monkeypatch.delitem(sys.modules, name)
    (finding,) = folders()
    assert finding.status == "FAILED"
    assert finding.what == f"import agents finds {tmp_path}/agents/__init__.py"


def test_a_directory_that_takes_no_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [finding.status for finding in disk()] in (["ok"], ["note"])
    (tmp_path / "runs").touch()
    assert [finding.status for finding in disk()] == ["FAILED"]


def test_a_check_that_raises_is_a_failure(capsys):
    def broken():
        yield Finding("ok", "so far")
        raise ImportError("No module named 'envpool'\nat all")

    assert report([broken]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ok      so far",
        "FAILED  broken: No module named 'envpool' at all",
        "          -> pip install -e .",
        "",
        "1 failed",
    ]


@pytest.mark.slow
@pytest.mark.ray
def test_this_installation(tmp_path):
    # In a process of its own, as Ray wants to be started before JAX.
    command = [sys.executable, "-m", "scripts.cli", "doctor", "--ray"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "Ray: a local cluster ran a task in process ",
        "JAX sees ",
        "EnvPool stepped 2 streams of Pong, observations (2, 4, 84, 84)",
        "self-check: STAC learnt on Catch for ",
        "All is well.",
    ):
        assert words in done.stdout
    assert list(tmp_path.iterdir()) == []
