import contextlib
import io
import math
import re
import time

import numpy as np

from scripts import progress
from scripts.progress import PartLines, Progress, sparkline


class Terminal(io.StringIO):
    def isatty(self):
        return True


class BrokenTerminal(Terminal):
    def write(self, text):
        raise BrokenPipeError


def log_point(update):
    return {
        "inner_updates": update,
        "agent_steps": 640 * update,
        "env_frames": 2560 * update,
        "episodes": 3,
        "episode_return_mean": -20.25,
        "policy_lag": 1.0,
        "actor_restarts": 2,
        "meta/gamma": 0.99 + 0.001 * math.sin(update),
        "meta/alpha": np.float32(0.5),
        "meta_grad/norm": None,
    }


def text_of(stream):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_a_terminal_shows_the_whole_state(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress("stac pong seed 0", "runs/here", 2_560_000, stream) as display:
        for update in range(1, 251):
            display.update(log_point(update))
        display.event("actor 1 was lost")
    screen = text_of(stream)
    for words in (
        "stac pong seed 0",
        "runs/here",
        "starting",
        "frames 640,000 of 2,560,000",
        "25.0%",
        "updates 250",
        "agent steps 160,000",
        "recent return -20.2",
        "lag 1 ",
        "restarts 2",
        "ETA",
        "frames/s",
        "gamma",
        "alpha",
        "0.5",
        "actor 1 was lost",
    ):
        assert words in screen, words
    assert "▁" in screen
    assert capsys.readouterr().out == ""


def test_nothing_of_the_runs_name_and_place_is_cut_on_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    stream, title = Terminal(), "stac on atari:montezuma_revenge, seed 0, cpu"
    run_dir = "/somewhere/far/away/" + 10 * "directory/" + "the-end"
    with Progress(title, run_dir, 2_560_000, stream) as display:
        display.update(log_point(1))
    lines = text_of(stream).replace("\r", "").splitlines()
    assert title in [line.rstrip() for line in lines]
    assert run_dir in "".join(line.rstrip() for line in lines)
    assert any("ETA" in line and "running" in line for line in lines)


def test_elsewhere_it_is_a_line_for_each_interval(monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.2)
    stream = io.StringIO()
    with Progress("run", "here", 25_000, stream) as display:  # the last batch goes beyond
        for update in range(1, 11):
            display.update(log_point(update))
            time.sleep(0.05)
        display.event("saved")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "onelife: run, in here"
    assert 4 <= len(lines) <= 6
    assert "event: saved" in lines
    assert lines[-1].startswith("25,600 of 25,000 frames (102.4%) | update 10 | ")
    assert "ETA 0:00:00 | return -20.2 | lag 1 | restarts 2 | η: gamma 0.989, alpha 0.5" in lines[-1]
    frames, updates = (
        float(x.replace(",", "")) for x in re.search(r"([\d,.]+) frames/s, ([\d.]+) up", lines[-1]).groups()
    )
    assert 0.5 * 20 * 2560 < frames < 1.1 * 20 * 2560
    assert 0.5 * 20 < updates < 1.1 * 20


def test_nothing_known_yet_is_a_dash_and_not_an_error():
    stream = io.StringIO()
    with Progress("run", "here", 100, stream) as display:
        display.update({"inner_updates": 1, "env_frames": 1, "episode_return_mean": math.nan, "policy_lag": None})
    assert "ETA - | return - | lag -" in stream.getvalue()


def test_a_lost_terminal_does_not_end_training():
    with Progress("run", "here", 100, BrokenTerminal()) as display:
        display.update(log_point(1))
        display.event("still alive")
    plain = io.StringIO()
    with Progress("run", "here", 100, plain) as display:
        display.update(log_point(1))
        plain.close()
        display.event("still alive")


def test_an_update_costs_little():
    with Progress("run", "here", 10**9, Terminal()) as display:
        started = time.process_time()
        for update in range(2000):
            display.update(log_point(update))
        assert (time.process_time() - started) / 2000 < 5e-4
    with contextlib.redirect_stderr(io.StringIO()):
        assert Progress("run", "here", 1)._console.file is not None


def test_sparkline_goes_from_lowest_to_highest_in_its_width():
    assert sparkline([1.0, 2.0, 3.0]) == "▁▅█"
    assert sparkline([0.99, 0.99]) == "▁▁"
    long = sparkline([float(x) for x in range(1000)], width=8)
    assert long == "▁▂▃▄▅▆▇█"


def test_parts_are_told_in_lines_now_and_then(monkeypatch, capsys):
    """Half was done before; a quarter takes 30 s, so that the other one will, too."""
    clock = iter((0.0, 1.0, 15.0, 16.0, 30.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    lines = PartLines()
    for what, part in (("a", 0.5), ("a", 0.5), ("b", 0.6), ("b", 0.75)):
        lines(what, part)
    assert capsys.readouterr().err == "onelife: a | 50.0% | ETA -\nonelife: b | 75.0% | ETA 0:00:30\n"
