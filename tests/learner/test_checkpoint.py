import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learner.checkpoint import Checkpointer, CheckpointError, rebuild


class Inner(NamedTuple):
    params: Any
    opt_state: Any


def state(step, tape=2):
    """A nest of everything that a run's state is made of; `tape` entries vary from save to save."""
    rng = np.random.default_rng(step)
    return {
        "learner": Inner(
            {"torso/~/linear": {"w": jnp.asarray(rng.normal(size=(8, 16)), jnp.float32), "b": jnp.zeros(16)}},
            (Inner(np.int64(step), None), ()),
        ),
        "tape": [Inner(rng.integers(0, 256, (3, 2, 4, 4), np.uint8), {"t": np.int8(step)}) for _ in range(tape)],
        "key": jax.random.PRNGKey(step),
        "flags": (rng.random(5) < 0.5, np.zeros((0, 3), np.float32), np.zeros(0, np.int8)),
        "half": jnp.asarray(rng.normal(size=3), jnp.bfloat16),
        "numbers": {"f64": rng.normal(size=3), "i64": np.asarray(2**62 + step), "nan": np.float32("nan")},
        "fortran": np.asfortranarray(rng.normal(size=(3, 4))),
        "strided": rng.integers(0, 9, (6, 6), np.int32)[::2, 1::3],
        "plain": [step, -0.0, float("inf"), "text", True, None, 2**100],
        "by_actor": {0: (1,), 10: ()},
    }


def plain(nest):
    """The nest as `restore` gives it: numpy arrays, NamedTuples as dicts."""
    if isinstance(nest, tuple) and hasattr(nest, "_fields"):
        nest = nest._asdict()
    if isinstance(nest, dict):
        return {key: plain(child) for key, child in nest.items()}
    if isinstance(nest, list | tuple):
        return type(nest)(plain(child) for child in nest)
    return np.asarray(nest) if isinstance(nest, np.ndarray | np.generic | jax.Array) else nest


def assert_same(actual, expected):
    assert type(actual) is type(expected)
    if isinstance(expected, dict):
        assert list(actual) == list(expected)
        for key in expected:
            assert_same(actual[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for a, e in zip(actual, expected, strict=True):
            assert_same(a, e)
    elif isinstance(expected, np.ndarray):
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
        assert actual.tobytes() == expected.tobytes()
    else:
        assert repr(actual) == repr(expected)


def files_of(directory):
    return sorted(path for path in directory.rglob("*") if path.is_file())


def test_every_bit_comes_back_from_nests_that_vary(tmp_path):
    checkpointer = Checkpointer(tmp_path / "checkpoints", keep=2)
    assert checkpointer.restore() is None and checkpointer.latest_step() is None
    for step, tape in ((3, 2), (7, 0), (8, 5)):
        assert checkpointer.save(step, state(step, tape))
    assert_same(checkpointer.restore(), (8, plain(state(8, 5))))
    assert checkpointer.close()
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["7", "8"]
    # Another process's view; the template gives back the types.
    step, restored = Checkpointer(tmp_path / "checkpoints").restore()
    rebuilt = rebuild(state(1, 5), restored)
    assert step == 8
    assert jax.tree.structure(rebuilt) == jax.tree.structure(state(1, 5))
    assert_same(plain(rebuilt), plain(state(8, 5)))
    assert checkpointer.events() == []


def test_the_state_is_copied_before_save_returns(tmp_path):
    checkpointer = Checkpointer(tmp_path)
    buffer = np.arange(4_000_000, dtype=np.float32)
    donated = jnp.arange(1_000_000.0)
    checkpointer.save(1, {"buffer": buffer, "donated": donated})
    buffer[:] = -1
    jax.jit(lambda x: x * 0 - 1, donate_argnums=0)(donated).block_until_ready()
    _, restored = checkpointer.restore()
    checkpointer.close()
    np.testing.assert_array_equal(restored["buffer"], np.arange(4_000_000, dtype=np.float32))
    np.testing.assert_array_equal(restored["donated"], np.arange(1_000_000, dtype=np.float32))


def test_saving_a_step_again_changes_nothing(tmp_path):
    checkpointer = Checkpointer(tmp_path)
    assert checkpointer.save(5, {"x": np.zeros(3)})
    assert checkpointer.save(5, {"x": np.zeros(3)}, blocking=True)
    checkpointer.close()
    assert os.listdir(tmp_path) == ["5"]


@pytest.mark.parametrize("bad", [object(), np.array(["text"]), {1.5: 0}, {1, 2}, lambda: 0])
def test_what_cannot_be_kept_is_refused_by_its_path(tmp_path, bad):
    with pytest.raises(TypeError, match=r"cannot checkpoint /a/1"):
        Checkpointer(tmp_path).save(1, {"a": (0, bad)})


@pytest.mark.parametrize("damage", ["truncated", "deleted", "flipped"])
def test_damage_anywhere_falls_back_to_the_one_before(tmp_path, damage, capfd):
    checkpointer = Checkpointer(tmp_path)
    for step in (1, 2):
        checkpointer.save(step, state(step))
    checkpointer.close()
    shutil.copytree(tmp_path / "2", tmp_path / "whole")
    steps = []
    for path in files_of(tmp_path / "2"):
        content = path.read_bytes()
        if damage == "truncated":
            path.write_bytes(content[: len(content) // 2])
        elif damage == "deleted":
            path.unlink()
        elif content:
            middle = len(content) // 2
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        fresh = Checkpointer(tmp_path)
        step, restored = fresh.restore()
        # Not every file matters; whatever is restored is right in every bit.
        assert_same(restored, plain(state(step)))
        assert [event.startswith("checkpoint 2 is damaged") for event in fresh.events()] == [True] * (step == 1)
        steps.append(step)
        path.write_bytes(content)
    assert 1 in steps
    assert Checkpointer(tmp_path).restore()[0] == 2
    assert "Traceback" not in capfd.readouterr().err


def test_a_damaged_checkpoint_is_replaced_by_later_saves(tmp_path):
    checkpointer = Checkpointer(tmp_path)
    for step in (10, 20):
        checkpointer.save(step, state(step))
    checkpointer.close()
    shutil.rmtree(tmp_path / "20" / "state")
    resumed = Checkpointer(tmp_path)
    assert resumed.restore()[0] == 10
    assert resumed.save(15, state(15), blocking=True)  # below the damaged step
    assert resumed.save(20, state(20), blocking=True)
    resumed.close()
    assert_same(Checkpointer(tmp_path).restore(), (20, plain(state(20))))
    assert sorted(os.listdir(tmp_path)) == ["15", "20", "20.damaged"]
    assert not (tmp_path / "20.damaged" / "state").exists()


def test_what_is_damaged_is_set_aside_and_does_not_pile_up(tmp_path):
    for step in (1, 2, 3, 4, 4):
        checkpointer = Checkpointer(tmp_path, keep=1)
        checkpointer.save(step, state(step), blocking=True)
        checkpointer.close()
        shutil.rmtree(tmp_path / str(step) / "state")
        damaged = Checkpointer(tmp_path, keep=1)
        with pytest.raises(CheckpointError, match=f"damaged: {step}"):
            damaged.restore()
        assert damaged.save(step, state(step), blocking=True)
        damaged.close()
        assert Checkpointer(tmp_path).latest_step() == step
    assert sorted(os.listdir(tmp_path)) == ["3.damaged", "4", "4.damaged"]


@pytest.mark.parametrize(
    "passing",
    [
        MemoryError(),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.EMFILE, "Too many open files"),
        PermissionError(errno.EACCES, "Permission denied"),
        RuntimeError("Unable to initialize backend 'cuda'"),
        ValueError("RESOURCE_EXHAUSTED: Failed to open: \"a\": Too many open files [os_error_code='24']"),
        ValueError("Failed to open: \"a\": File name too long [os_error_code='36']"),
        jax.errors.JaxRuntimeError("INTERNAL: the device is gone"),
    ],
    ids=repr,
)
def test_an_error_that_may_pass_condemns_no_checkpoint(tmp_path, monkeypatch, passing):
    import orbax.checkpoint as ocp

    def fail(*_, **__):
        raise passing

    checkpointer = Checkpointer(tmp_path)
    for step in (1, 2):
        checkpointer.save(step, state(step), blocking=True)
    with monkeypatch.context() as patched:
        patched.setattr(ocp.Checkpointer, "restore", fail)
        with pytest.raises(CheckpointError, match=f"^{tmp_path}/2 could not be read now: .*; try again") as told:
            checkpointer.restore()
    assert "\n" not in str(told.value)
    assert checkpointer.save(3, state(3), blocking=True)
    checkpointer.close()
    assert sorted(os.listdir(tmp_path)) == ["2", "3"] and checkpointer.events() == []


def test_too_many_open_files_is_no_damage(tmp_path):
    checkpointer = Checkpointer(tmp_path)
    checkpointer.save(1, state(1), blocking=True)
    assert checkpointer.restore()[0] == 1  # what reading imports and opens once is there
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        with pytest.raises(CheckpointError, match=r"could not be read now: .*Too many open files"):
            checkpointer.restore()
        assert not checkpointer.save(2, state(2), blocking=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    (told,) = checkpointer.events()
    assert told.startswith("checkpoint 2 could not be saved, and nor can the directory be listed: ")
    assert checkpointer.restore()[0] == 1
    assert checkpointer.save(3, state(3), blocking=True) and checkpointer.restore()[0] == 3
    checkpointer.close()


def test_no_readable_checkpoint_is_one_clear_line(tmp_path):
    checkpointer = Checkpointer(tmp_path)
    for step in (1, 2):
        checkpointer.save(step, state(step))
    checkpointer.close()
    for step in ("1", "2"):
        (tmp_path / step / "meta" / "metadata").write_text("{}")
    with pytest.raises(CheckpointError, match=r"no readable checkpoint \(damaged: 1, 2\)") as error:
        Checkpointer(tmp_path).restore()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"a": np.zeros((2, 3), np.float32)}, r"a is an array float32\[2\], not an array float32\[2, 3\]"),
        ({"a": np.zeros(2, np.int32)}, r"a is an array float32\[2\], not an array int32\[2\]"),
        ({"a": jax.ShapeDtypeStruct((3,), jnp.float32)}, r"a is an array float32\[2\], not an array float32\[3\]"),
        ({"a": None}, r"a is an array float32\[2\], not None"),
        ({"a": {"w": np.zeros(2)}}, r"a is an array float32\[2\], not a dict"),
        ({"b": np.zeros(2)}, r"state is made of \(a\), not of \(b\)"),
        (Inner(0, 0), r"state is made of \(a\), not of \(params, opt_state\)"),
        ([0], r"state is a dict, not a list of 1"),
    ],
)
def test_a_checkpoint_of_another_config_is_told_by_path(template, message):
    with pytest.raises(CheckpointError, match=f"^checkpoint of another config or version: {message}$"):
        rebuild(template, {"a": np.zeros(2, np.float32)})


SAVES = """
import sys
import numpy as np
from learner.checkpoint import Checkpointer
checkpointer = Checkpointer(sys.argv[1])
found = checkpointer.restore()
step = 0 if found is None else found[0]
if found is not None:
    assert (found[1]["x"] == step).all() and len(found[1]["tape"]) == step % 3
print("go", step, flush=True)
while True:
    step += 1
    checkpointer.save(step, {"x": np.full((300, 1000), step), "tape": [np.arange(step)] * (step % 3)})
    if checkpointer.wait():
        print("saved", step, flush=True)
"""


def test_kill_nine_at_any_moment_leaves_the_last_finished_checkpoint(tmp_path):
    finished = 0
    rng = np.random.default_rng(0)
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", SAVES, tmp_path], stdout=subprocess.PIPE, text=True)
        try:
            word, resumed = process.stdout.readline().split()
            assert word == "go"
            assert int(resumed) in (finished, finished + 1)  # one may have been finished and not told any more
            told = [process.stdout.readline()]
            time.sleep(0.3 * rng.random())
        finally:
            process.send_signal(signal.SIGKILL)
            told += process.stdout.read().splitlines()
            process.wait()
        finished = int([line for line in told if line.startswith("saved ")][-1].split()[1])
    checkpointer = Checkpointer(tmp_path)
    step, restored = checkpointer.restore()
    assert step in (finished, finished + 1)
    assert (restored["x"] == step).all()
    assert checkpointer.events() == []


FULL = """
import resource, sys
import numpy as np
from learner.checkpoint import Checkpointer
checkpointer = Checkpointer(sys.argv[1])
def state(seed):
    return {"x": np.random.default_rng(seed).normal(size=100_000)}
assert checkpointer.save(1, state(1), blocking=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
print([checkpointer.save(2, state(2), blocking=True), checkpointer.latest_step()])
saves = [checkpointer.save(3, state(3)), checkpointer.save(4, state(4)), checkpointer.close()]
print(saves, checkpointer.latest_step())
for event in checkpointer.events():
    print(event)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print([checkpointer.save(5, state(5), blocking=True), checkpointer.latest_step()])
step, restored = checkpointer.restore()
assert (restored["x"] == state(5)["x"]).all()
print(checkpointer.close(), checkpointer.events())
"""


def test_a_full_disk_costs_that_save_and_nothing_else(tmp_path):
    # A limit on the file size makes writes fail as a full disk does.
    out = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, timeout=120)
    assert out.returncode == 0, out.stderr
    lines = out.stdout.splitlines()
    assert lines[0] == "[False, 1]"
    assert lines[1] == "[True, True, False] 1"  # a save in the background fails later, and is told then
    assert [line.split(":")[0] for line in lines[2:5]] == [
        f"checkpoint {step} could not be saved, the last good one stays" for step in (2, 3, 4)
    ]
    assert lines[5:] == ["[True, 5]", "True []"]
    assert sorted(os.listdir(tmp_path)) == ["1", "5"]
    assert out.stderr == ""


def test_where_no_save_has_succeeded_none_is_said_to_stay(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("No space left on device")

    checkpointer = Checkpointer(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(checkpointer, "_start_save", fail)
        assert not checkpointer.save(1, {"x": np.zeros(3)}, blocking=True)
    assert checkpointer.save(2, {"x": np.zeros(3)}, blocking=True)
    monkeypatch.setattr(checkpointer, "_start_save", fail)
    assert not checkpointer.save(3, {"x": np.zeros(3)}, blocking=True)
    assert checkpointer.events() == [
        "checkpoint 1 could not be saved, and there is none before it: No space left on device",
        "checkpoint 3 could not be saved, the last good one stays: No space left on device",
    ]


FAILED = """
import sys
import jax
from learner.checkpoint import Checkpointer
made = jax.jit(lambda key: (jax.random.normal(key, (2**30, 2**28)), jax.random.normal(key)))(jax.random.key(0))
Checkpointer(sys.argv[1]).save(1, {"x": made[1]})
"""


def test_what_a_failed_computation_should_have_made_is_not_waited_for(tmp_path):
    """No machine has the 2⁶⁰ bytes: on a CPU the computation is dispatched, and fails later."""
    command = [sys.executable, "-c", FAILED, tmp_path]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=os.environ | {"JAX_PLATFORMS": "cpu"}
    )
    assert done.returncode == 1 and "Out of memory" in done.stderr
    assert os.listdir(tmp_path) == []


def test_importing_the_module_does_not_import_orbax():
    code = "import sys, learner.checkpoint; sys.exit('orbax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
