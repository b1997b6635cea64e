"""Huge pages: asked for once, by the command line itself, and only where asking helps."""

import os
import subprocess
import sys

import pytest

from scripts import huge_pages


@pytest.fixture
def started(monkeypatch):
    """What the process was started again with: nothing, or (program, words)."""
    found = []
    monkeypatch.setattr(os, "execv", lambda *given: found.append(given))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "scripts.cli", "train"])
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")  # what was there stays
    return found


def kernel(tmp_path, monkeypatch, text):
    (tmp_path / "enabled").write_text(text)
    monkeypatch.setattr(huge_pages, "_KERNEL", tmp_path / "enabled")
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36")


def test_the_same_command_is_started_again_and_asks_once(started, tmp_path, monkeypatch):
    kernel(tmp_path, monkeypatch, "always [madvise] never\n")
    huge_pages.ask_for_huge_pages()
    assert started == [(sys.executable, [sys.executable, "-m", "scripts.cli", "train"])]
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=1:glibc.malloc.hugetlb=1"
    huge_pages.ask_for_huge_pages()
    assert len(started) == 1


@pytest.mark.parametrize("libc", ["glibc 2.31", "musl", ""])
def test_a_c_library_that_cannot_ask_does_not(started, tmp_path, monkeypatch, libc):
    kernel(tmp_path, monkeypatch, "always [madvise] never\n")
    monkeypatch.setattr(os, "confstr", lambda name: libc)
    huge_pages.ask_for_huge_pages()
    assert not started


@pytest.mark.parametrize("text", ["[always] madvise never\n", "always madvise [never]\n"])
def test_where_all_or_none_have_them_nothing_is_asked(started, tmp_path, monkeypatch, text):
    kernel(tmp_path, monkeypatch, text)
    huge_pages.ask_for_huge_pages()
    assert not started


def test_a_real_command_goes_on_as_itself(tmp_path):
    """Twice the same answer, whether the process starts again or is told not to."""
    said = []
    for tunables in ("", "glibc.malloc.hugetlb=0"):
        done = subprocess.run(
            [sys.executable, "-m", "scripts.cli", "train", "smoek", "--seed", "1"],
            env=os.environ | {"GLIBC_TUNABLES": tunables},
            capture_output=True,
            text=True,
            timeout=120,
        )
        said.append((done.returncode, done.stderr))
    assert said[0] == said[1] and said[0][0] == 2 and "did you mean smoke?" in said[0][1]
