"""Where compiled programs are kept."""

import os
import subprocess
import sys

SCRIPT = """
import jax

from scripts.compile_cache import use_compile_cache

use_compile_cache()
jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((300, 300)))
print(jax.config.jax_compilation_cache_dir)
"""


def place(home, **environment):
    environment = os.environ | {"XDG_CACHE_HOME": str(home)} | environment
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def test_the_users_own_choice_stands(tmp_path):
    assert place(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine")) == str(tmp_path / "mine")
    assert not (tmp_path / "onelife").exists()


def test_otherwise_they_are_kept_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    where = place(tmp_path)
    assert where.startswith(str(tmp_path / "onelife"))


def test_a_home_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    (tmp_path / "onelife").write_text("a file where the folder should be")
    assert place(tmp_path) == "None"
