"""Logs of a run: metrics.jsonl, which is the truth, and TensorBoard events beside it."""

import contextlib
import csv
import itertools
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

METRICS = "metrics.jsonl"
CSV = "metrics.csv"
TENSORBOARD = "tensorboard"


class MetricsLogger:
    """Writes one log point at a time. A write that fails is lost and told by `events`; it never raises.

    Every log point is one line of metrics.jsonl, complete on disk's page cache when `write` returns, so that a killed
    process loses nothing.
    """

    def __init__(self, run_dir: str | Path, tensorboard: bool, resume_at: int | None = None):
        """`resume_at`: number of inner updates to go on from; log points beyond it are cut off, None keeps them.

        Where none would be left, the old log is not cut but kept beside the new one, as `old_log` ("" for none).
        """
        self._events: list[str] = []
        self._lost = 0
        path = Path(run_dir) / METRICS
        self.old_log, kept = _cut(path, resume_at)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._end = os.fstat(self._file).st_size
        self._tensorboard = None
        if tensorboard:
            resumed_frames = None if kept is None else int(kept.get("env_frames", 0))
            try:
                self._tensorboard = _TensorBoard(Path(run_dir) / TENSORBOARD, resumed_frames)
            except OSError as error:
                self._events.append(f"TensorBoard events are not written: {error.strerror}")

    def write(self, metrics: dict[str, Any]) -> None:
        """Appends a log point: flat names to numbers (Python's, numpy's, or one-element arrays), strings or None.

        Numbers that are not finite become null. Must have `inner_updates` and `env_frames`, TensorBoard's step.
        """
        point = {name: _plain(value) for name, value in metrics.items()}
        line = (json.dumps(point, allow_nan=False) + "\n").encode()
        try:
            rest = line
            while rest:
                rest = rest[os.write(self._file, rest) :]
            self._end += len(line)
            if self._lost:
                self._events.append(f"{METRICS} is written again; {self._lost} log points were lost")
                self._lost = 0
        except OSError as error:
            if not self._lost:
                self._events.append(f"{METRICS} cannot be written, training goes on: {error.strerror}")
            self._lost += 1
            os.ftruncate(self._file, self._end)  # no half line in the middle
        if self._tensorboard is not None:
            try:
                self._tensorboard.write(point)
            except OSError as error:
                self._events.append(f"TensorBoard events are no longer written: {error.strerror}")
                self._tensorboard = None

    def events(self) -> list[str]:
        """What a user should know (log points that could not be written), each once."""
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Flushes and closes both logs."""
        os.close(self._file)
        if self._tensorboard is not None:
            self._tensorboard.close()


class _TensorBoard:
    """One events file, written at once: SummaryWriter's thread would die on a full disk and its queue then block."""

    def __init__(self, directory: Path, resumed_frames: int | None):
        from tensorboardX.event_file_writer import EventsWriter  # 0.5 s, and only where it is wanted
        from tensorboardX.proto import event_pb2, summary_pb2

        self._event, self._session = event_pb2.Event, event_pb2.SessionLog
        self._summary = summary_pb2.Summary
        directory.mkdir(parents=True, exist_ok=True)
        # The process id keeps two sessions apart that start in the same second.
        self._writer = EventsWriter(str(directory / "events"), f".{os.getpid()}")
        if resumed_frames is not None:  # TensorBoard then hides what it has from this step on
            start = self._session(status=self._session.START)
            self._writer.write_event(self._event(step=resumed_frames + 1, session_log=start, wall_time=time.time()))
        self._writer.flush()

    def write(self, point: dict[str, Any]) -> None:
        values = [
            self._summary.Value(tag=name, simple_value=float(value))
            for name, value in point.items()
            if isinstance(value, int | float)
        ]
        summary = self._summary(value=values)
        self._writer.write_event(self._event(step=point["env_frames"], summary=summary, wall_time=time.time()))
        self._writer.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # all that could be written was flushed
            self._writer.close()


def read_metrics(run_dir: str | Path) -> list[dict[str, Any]]:
    """All log points of a run, in order; without a torn last line (of a killed process). [] if none."""
    try:
        data = (Path(run_dir) / METRICS).read_bytes()
    except FileNotFoundError:
        return []
    return [point for point, _ in _points(data)]


def export_csv(run_dir: str | Path) -> Path:
    """Writes the run's log points as metrics.csv: a column for each name ever logged, empty cells where it was not."""
    points = read_metrics(run_dir)
    columns = list(dict.fromkeys(name for point in points for name in point))
    path = Path(run_dir) / CSV
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(points)
    return path


def _points(data: bytes) -> list[tuple[dict[str, Any], int]]:
    """The log points of a file's bytes, each with the offset of its line's end, up to the first that is not whole."""
    points, end = [], 0
    for line in data.splitlines(keepends=True):
        try:
            point = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or not isinstance(point, dict):
            break
        end += len(line)
        points.append((point, end))
    return points


def _cut(path: Path, resume_at: int | None) -> tuple[str, dict[str, Any] | None]:
    """Cuts a torn end and, with `resume_at`, the log points beyond it; moves a log aside of which none would be left.

    Returns the name of a log that was moved, else "", and the last log point kept: {} for none, None without a log.
    """
    if not path.exists():
        return "", None
    points = _points(path.read_bytes())
    kept = [(point, end) for point, end in points if resume_at is None or point.get("inner_updates", 0) <= resume_at]
    if points and not kept:
        return _move_aside(path), {}
    os.truncate(path, kept[-1][1] if kept else 0)
    return "", kept[-1][0] if kept else {}


def _move_aside(path: Path) -> str:
    """Renames metrics.jsonl to the first metrics-N.jsonl that is free; returns that name."""
    numbered = (path.with_stem(f"{path.stem}-{n}") for n in itertools.count(1))
    old = next(name for name in numbered if not name.exists())
    path.rename(old)
    return old.name


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if not isinstance(value, float):
        value = np.asarray(value).item()
    return value if not isinstance(value, float) or math.isfinite(value) else None
