import json
import os
import resource
import struct
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from learner.loggers import MetricsLogger, export_csv, read_metrics


def point(update, **more):
    return {"inner_updates": update, "env_frames": 80 * update, **more}


def tensorboard_events(run_dir):
    """[(step, {tag: value}, is a session start)] of all events files, read from the bytes of the record format."""
    from tensorboardX.proto.event_pb2 import Event

    events = []
    for path in sorted((run_dir / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            events.append((event.step, {v.tag: v.simple_value for v in event.summary.value}, event.session_log.status))
            at += length + 16
    return events


def test_log_points_come_back_with_nonfinite_numbers_as_null(tmp_path):
    logger = MetricsLogger(tmp_path, tensorboard=False)
    logger.write(
        point(20, a=float("nan"), b=np.float32(0.5), c=jnp.float32(jnp.inf), d=np.ones((1,), np.int64), e=True, f=None)
    )
    logger.write(point(40, a=1.25))
    # On disk before the logger is closed: a killed process loses nothing.
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    logger.close()
    assert [json.loads(line) for line in lines] == [
        {"inner_updates": 20, "env_frames": 1600, "a": None, "b": 0.5, "c": None, "d": 1, "e": True, "f": None},
        {"inner_updates": 40, "env_frames": 3200, "a": 1.25},
    ]
    assert read_metrics(tmp_path)[1]["a"] == 1.25


def test_resume_cuts_what_lies_beyond_it_and_a_torn_line(tmp_path):
    logger = MetricsLogger(tmp_path, tensorboard=False)
    for update in (20, 40, 60, 80):
        logger.write(point(update, x=update))
    logger.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"inner_updates": 100, "env_fr')
    assert [p["inner_updates"] for p in read_metrics(tmp_path)] == [20, 40, 60, 80]

    logger = MetricsLogger(tmp_path, tensorboard=False, resume_at=50)
    logger.write(point(60, x=-1))
    logger.close()
    assert [(p["inner_updates"], p["x"]) for p in read_metrics(tmp_path)] == [(20, 20), (40, 40), (60, -1)]


def test_a_log_of_which_nothing_would_be_left_is_moved_aside(tmp_path):
    for life in range(3):
        logger = MetricsLogger(tmp_path, tensorboard=True, resume_at=0)
        assert logger.old_log == (f"metrics-{life}.jsonl" if life else "")
        assert read_metrics(tmp_path) == []
        logger.write(point(20, life=life))
        logger.close()
    assert [json.loads((tmp_path / f"metrics-{n}.jsonl").read_text())["life"] for n in (1, 2)] == [0, 1]
    assert (1, {}, 1) in tensorboard_events(tmp_path)  # hidden from the first step on
    logger = MetricsLogger(tmp_path, tensorboard=False, resume_at=20)
    logger.close()
    assert logger.old_log == "" and len(read_metrics(tmp_path)) == 1


def test_a_torn_line_is_cut_without_resume_point_too(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"inner_updates": 20, "env_frames": 1}\n{"inner_up')
    logger = MetricsLogger(tmp_path, tensorboard=False)
    logger.write(point(40))
    logger.close()
    assert [p["inner_updates"] for p in read_metrics(tmp_path)] == [20, 40]


def test_tensorboard_has_the_numbers_at_emulator_frames_and_purges_on_resume(tmp_path):
    logger = MetricsLogger(tmp_path, tensorboard=True)
    logger.write(point(20, **{"meta/gamma": 0.5, "nothing": None}))
    logger.write(point(40, **{"meta/gamma": 0.75}))
    events = tensorboard_events(tmp_path)  # flushed, not only at the end
    logger.close()
    assert [(step, values.get("meta/gamma")) for step, values, _ in events[1:]] == [(1600, 0.5), (3200, 0.75)]
    assert "nothing" not in events[1][1]
    logger = MetricsLogger(tmp_path, tensorboard=True, resume_at=20)
    logger.close()
    assert (1601, {}, 1) in tensorboard_events(tmp_path)


def test_csv_has_every_column_ever_logged(tmp_path):
    logger = MetricsLogger(tmp_path, tensorboard=False)
    logger.write(point(20, a=1))
    logger.write(point(40, b=2.5))
    logger.close()
    assert export_csv(tmp_path).read_text().splitlines() == [
        "inner_updates,env_frames,a,b",
        "20,1600,1,",
        "40,3200,,2.5",
    ]


@pytest.mark.parametrize("tensorboard", [False, True])
def test_a_full_disk_costs_log_points_and_nothing_else(tmp_path, tensorboard):
    # A limit on the file size makes writes fail as a full disk does, in the middle of a line.
    code = """
import resource, signal, sys
from learner.loggers import MetricsLogger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
logger = MetricsLogger(sys.argv[1], tensorboard=sys.argv[2] == "True")
for update in range(1, 101):
    if update == 11:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    if update == 91:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    logger.write({"inner_updates": update, "env_frames": update, "x": "y" * 50})
for event in logger.events():
    print(event)
logger.close()
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    out = subprocess.run(
        [sys.executable, "-c", code, tmp_path, str(tensorboard)], capture_output=True, text=True, timeout=60
    )
    assert out.returncode == 0, out.stderr
    updates = [p["inner_updates"] for p in read_metrics(tmp_path)]
    assert updates[-10:] == list(range(91, 101))
    assert updates[0] == 1 and 11 < len(updates) < 40
    assert f"metrics.jsonl is written again; {100 - len(updates)} log points were lost" in out.stdout
    assert len([line for line in out.stdout.splitlines() if "metrics.jsonl cannot be written" in line]) == 1
    assert ("TensorBoard events are no longer written" in out.stdout) == tensorboard


def test_only_the_wanted_log_is_made(tmp_path):
    MetricsLogger(tmp_path, tensorboard=False).close()
    assert os.listdir(tmp_path) == ["metrics.jsonl"]
