"""Checkpoints: any nest of arrays and plain values, kept bit for bit, written atomically in the background.

A checkpoint is a directory named by its step with two items: `state`, the arrays under flat names, and `meta`, a JSON
description of the nest with the CRC-32 of each array. Nothing is pickled, and no class is needed to read it back.
"""

import json
import logging
import re
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

FORMAT = 1
_DAMAGED = ".damaged"  # ends the name that a checkpoint found damaged is given before a save may take its place
_KEEP_DAMAGED = 2


class CheckpointError(ValueError):
    """There is no checkpoint to go on from, or it does not fit. The message is one line."""


class _Damaged(Exception):
    """This checkpoint cannot be read; an older one may be."""


class Checkpointer:
    """The checkpoints of one run. Only one process may save into a directory; any number may restore from it.

    A save that fails (a full disk) costs nothing but that save: the last good checkpoint, if any, stays, `events` says
    what happened, and the next save tries again.
    """

    def __init__(self, directory: str | Path, keep: int = 2):
        """`keep`: how many checkpoints to keep, at least 1. Makes the directory at the first save."""
        self._directory = Path(directory).absolute()
        self._keep = keep
        self._manager = None
        self._saving: int | None = None  # step of the save under way
        self._unreadable: set[int] = set()
        self._events: list[str] = []

    def save(self, step: int, state: Any, blocking: bool = False) -> bool:
        """Saves `state` as checkpoint `step` (grows from save to save).

        state: nest of dict (str or int keys), list, tuple, NamedTuple, None, bool, int, float, str, numpy and jax
        arrays of numbers; its structure may differ from save to save. It is copied before the call returns. Waits for
        the save before. Returns False where this save is known to have failed: with `blocking`, whether it is on disk.
        Raises TypeError for a state with anything else in it.
        """
        structure, arrays = _describe(state)
        self.wait()
        try:
            if step in self._steps() - self._unreadable:
                return True
            self._start_save(step, structure, arrays)
        except Exception as error:
            self._save_failed(step, error)
            return False
        return self.wait() if blocking else True

    def wait(self) -> bool:
        """Waits for the save under way; True where there is none or it succeeded."""
        if self._saving is None:
            return True
        step, self._saving = self._saving, None
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
            if step not in self._steps():
                raise OSError("it is not there after the save")
        except Exception as error:
            self._save_failed(step, error)
            return False
        return True

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None where there is none. Says nothing about whether it is readable."""
        return max(self._steps(), default=None)

    def restore(self) -> tuple[int, Any] | None:
        """(step, state) of the newest readable checkpoint; None where no checkpoint was ever finished.

        Arrays come back as numpy, dicts, lists, tuples, None, bool, int, float and str as they were, a NamedTuple as
        the dict of its fields: see `rebuild`. Damaged checkpoints are passed over with an event, and set aside by later
        saves. Raises CheckpointError if none is readable, if they are of another format, or if the newest cannot be
        read for a reason that may pass (memory, open files, the disk): that it is damaged is then not known.
        """
        self.wait()
        first_problem = None
        while steps := self._steps() - self._unreadable:
            step = max(steps)
            try:
                return step, _read(self._directory / str(step))
            except _Damaged as problem:
                self._unreadable.add(step)
                self._events.append(f"checkpoint {step} is damaged, trying the one before: {problem}")
                first_problem = first_problem or problem
        if not self._unreadable:
            return None
        steps = ", ".join(str(step) for step in sorted(self._unreadable))
        raise CheckpointError(f"{self._directory}: no readable checkpoint (damaged: {steps}): {first_problem}")

    def events(self) -> list[str]:
        """What a user should know (saves that failed, damaged checkpoints), each once."""
        events, self._events = self._events, []
        return events

    def close(self) -> bool:
        """Waits for the save under way, ends the background threads; returns what `wait` returns."""
        saved = self.wait()
        self._drop_manager()
        return saved

    def _steps(self) -> set[int]:
        # Orbax writes under another name and renames when all is on disk, so that a number is a finished checkpoint.
        try:
            return {int(path.name) for path in self._directory.iterdir() if path.name.isdigit()}
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise CheckpointError(f"{self._directory} could not be read now: {error.strerror}; try again") from None

    def _start_save(self, step: int, structure: Any, arrays: dict[str, np.ndarray]) -> None:
        ocp = _orbax()
        # Orbax would neither overwrite a damaged checkpoint nor save below the newest step.
        for unreadable in sorted(self._unreadable & self._steps()):
            self._set_aside(unreadable)
        self._unreadable.clear()
        if self._manager is None:
            options = ocp.CheckpointManagerOptions(max_to_keep=self._keep, cleanup_tmp_directories=True, create=True)
            self._manager = ocp.CheckpointManager(self._directory, options=options)
        meta = {"format": FORMAT, "structure": structure, "crc32": _checksums(structure, arrays)}
        # Orbax refuses an item without arrays.
        arrays = {**arrays, "arrays": np.asarray(len(arrays), np.int32)}
        args = ocp.args.Composite(state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave(meta))
        self._saving = step
        if not self._manager.save(step, args=args, force=True):
            raise OSError("orbax declined to save")

    def _set_aside(self, step: int) -> None:
        """Renames a damaged checkpoint; the last few are kept."""
        place = self._directory / f"{step}{_DAMAGED}"
        older = [path for path in self._directory.glob(f"*{_DAMAGED}") if path != place]
        older.sort(key=lambda path: path.stat().st_mtime)
        for path in (place, *older[: len(older) - _KEEP_DAMAGED + 1]):
            shutil.rmtree(path, ignore_errors=True)
        (self._directory / str(step)).rename(place)
        self._drop_manager()

    def _save_failed(self, step: int, error: Exception) -> None:
        self._saving = None
        self._drop_manager()  # after a failure its idea of what is on disk is wrong
        try:
            before = "the last good one stays" if self._steps() - self._unreadable else "and there is none before it"
            for leftover in self._directory.glob("*orbax-checkpoint-tmp*"):
                shutil.rmtree(leftover, ignore_errors=True)
        except (CheckpointError, OSError):
            before = "and nor can the directory be listed"
        self._events.append(f"checkpoint {step} could not be saved, {before}: {_one_line(error)}")

    def _drop_manager(self) -> None:
        manager, self._manager = self._manager, None
        if manager is not None:
            try:
                manager.close()
            except Exception as error:
                # It raises the failure of the save again, which `events` already tells.
                logging.getLogger(__name__).debug("closing the checkpoint manager: %s", error)


def rebuild(template: Any, plain: Any, path: str = "") -> Any:
    """Gives a restored nest the types of `template`: NamedTuples again, numpy arrays checked for shape and dtype.

    template: nest like the saved one; its arrays may be jax.ShapeDtypeStruct. Returns the nest with the arrays of
    `plain`. Raises CheckpointError at the first difference, with the path to it.
    """

    def mismatch(found: str, expected: str) -> CheckpointError:
        return CheckpointError(f"checkpoint of another config or version: {path or 'state'} is {found}, not {expected}")

    if _is_namedtuple(template) or isinstance(template, dict):
        expected = template._asdict() if _is_namedtuple(template) else template
        if not isinstance(plain, dict):
            raise mismatch(_kind(plain), _kind(template))
        if plain.keys() != expected.keys():
            raise mismatch(f"made of ({_names(plain)})", f"of ({_names(expected)})")
        children = {key: rebuild(expected[key], plain[key], f"{path}/{key}" if path else str(key)) for key in expected}
        return type(template)(**children) if _is_namedtuple(template) else children
    if isinstance(template, list | tuple):
        if type(plain) is not type(template) or len(plain) != len(template):
            raise mismatch(_kind(plain), _kind(template))
        children = (
            rebuild(t, p, f"{path}/{i}" if path else str(i))
            for i, (t, p) in enumerate(zip(template, plain, strict=True))
        )
        return type(template)(children)
    if hasattr(template, "shape") and hasattr(template, "dtype"):
        matches = isinstance(plain, np.ndarray) and (plain.shape, plain.dtype) == (template.shape, template.dtype)
    else:
        matches = type(plain) is type(template)
    if not matches:
        raise mismatch(_kind(plain), _kind(template))
    return plain


def _read(directory: Path) -> Any:
    ocp = _orbax()
    checkpointer = ocp.Checkpointer(ocp.CompositeCheckpointHandler())
    try:
        meta = checkpointer.restore(directory, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        if meta["format"] != FORMAT:
            raise CheckpointError(
                f"{directory}: checkpoint of another version (format {meta['format']}, this version reads {FORMAT})"
            )
        arrays = checkpointer.restore(directory, args=ocp.args.Composite(state=ocp.args.StandardRestore()))["state"]
        arrays.pop("arrays")
        found = _checksums(meta["structure"], arrays)
        if changed := [name for name in {**meta["crc32"], **found} if meta["crc32"].get(name) != found.get(name)]:
            raise _Damaged(f"its bytes have changed ({', '.join(changed[:5])})")
        return _undescribe(meta["structure"], arrays)
    except (CheckpointError, _Damaged):
        raise
    except Exception as error:
        if _is_damage(error):
            raise _Damaged(_one_line(error)) from error
        raise CheckpointError(
            f"{directory} could not be read now: {_one_line(error)}; try again, or move it away to go on from the one"
            " before"
        ) from error
    finally:
        checkpointer.close()


def _is_damage(error: Exception) -> bool:
    """Whether an error of reading is for certain about what the files hold, not about the machine that reads them."""
    if isinstance(error, ValueError):  # JSON, UTF-8, orbax and tensorstore, whose status comes first if it has a name
        status = re.match(r"([A-Z_]+): ", str(error))
        if status is None:
            return "os_error_code" not in str(error)
        return status[1] in ("DATA_LOSS", "OUT_OF_RANGE", "NOT_FOUND")
    return isinstance(error, FileNotFoundError | KeyError)


def _describe(state: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """A nest -> (JSON description, its arrays by the names in the description)."""
    jax_arrays: list[jax.Array] = []
    arrays: dict[str, np.ndarray] = {}
    pending: list[tuple[str, int]] = []

    def describe(node: Any, path: str) -> Any:
        if node is None or type(node) in (bool, int, float, str):
            return {"value": node}
        if _is_namedtuple(node):
            node = node._asdict()
        if isinstance(node, dict):
            if wrong := [key for key in node if type(key) not in (str, int)]:
                raise TypeError(f"cannot checkpoint {path or 'state'}: key {wrong[0]!r} is neither str nor int")
            return {"dict": [[key, describe(child, f"{path}/{key}")] for key, child in node.items()]}
        if type(node) in (list, tuple):
            return {type(node).__name__: [describe(child, f"{path}/{i}") for i, child in enumerate(node)]}
        numeric = isinstance(node, jax.Array | np.ndarray | np.generic)
        if not numeric or jax.dtypes.issubdtype(node.dtype, jax.dtypes.extended) or node.dtype.kind in "OSUMm":
            raise TypeError(f"cannot checkpoint {path or 'state'}: {_kind(node)}")
        if node.size == 0:  # tensorstore has no empty arrays
            return {"empty": [list(node.shape), node.dtype.name]}
        name = str(len(arrays))
        arrays[name] = np.asarray(node) if not isinstance(node, jax.Array) else None
        if isinstance(node, jax.Array):
            jax_arrays.append(node)
            pending.append((name, len(jax_arrays) - 1))
        return {"array": name}

    structure = describe(state, "")
    # An array of a computation that failed raises here; read without waiting for it, it hangs (CPU, jax 0.10).
    fetched = jax.device_get(jax.block_until_ready(jax_arrays))  # at once, so that the transfers overlap
    arrays.update({name: fetched[i] for name, i in pending})
    return structure, arrays


def _undescribe(structure: Any, arrays: dict[str, np.ndarray]) -> Any:
    ((kind, content),) = structure.items()
    if kind == "value":
        return content
    if kind == "dict":
        return {key: _undescribe(child, arrays) for key, child in content}
    if kind == "empty":
        shape, dtype = content
        return np.empty(shape, jax.numpy.dtype(dtype))
    if kind == "array":
        return arrays[content]
    return {"list": list, "tuple": tuple}[kind](_undescribe(child, arrays) for child in content)


def _checksums(structure: Any, arrays: dict[str, np.ndarray]) -> dict[str, int]:
    """CRC-32 of the description and of every array: neither JSON nor orbax's files notice a flipped bit."""
    checksums = {"structure": zlib.crc32(json.dumps(structure).encode())}
    for name, array in arrays.items():
        header = zlib.crc32(f"{array.dtype.name}{array.shape}".encode())
        checksums[name] = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8), header)
    return checksums


def _orbax():
    """The library, imported at first use (0.4 s), without its tracebacks on stderr: `events` tells what failed."""
    import orbax.checkpoint as ocp

    logger = logging.getLogger("absl")
    if _not_orbax not in logger.filters:
        logger.addFilter(_not_orbax)
        # Reads still under way when another one fails on a damaged checkpoint report to a loop that is gone.
        previous = sys.unraisablehook
        sys.unraisablehook = lambda problem: _is_late_read(problem) or previous(problem)
    return ocp


def _not_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname


def _is_late_read(problem: Any) -> bool:
    return isinstance(problem.exc_value, RuntimeError) and str(problem.exc_value) == "Event loop is closed"


def _is_namedtuple(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields")


def _kind(node: Any) -> str:
    if hasattr(node, "shape") and hasattr(node, "dtype"):
        return f"an array {node.dtype}{list(node.shape)}"
    if isinstance(node, list | tuple) and not _is_namedtuple(node):
        return f"a {type(node).__name__} of {len(node)}"
    return "None" if node is None else f"a {type(node).__name__}"


def _names(mapping: dict) -> str:
    return ", ".join(str(key) for key in mapping)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
