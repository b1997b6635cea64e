"""Live progress on stderr: a rich display on a terminal, one line per interval elsewhere. stdout stays clean."""

import collections
import itertools
import math
import sys
import time
from typing import IO, Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

REFRESHES_PER_SECOND = 2
LINE_SECONDS = 10.0
RATE_SECONDS = 30.0
EVENTS_SHOWN = 5
SPARKLINE_WIDTH = 32


class _Console(Console):
    def on_broken_pipe(self) -> None:
        self.quiet = True  # rich would exit the process


class Progress:
    """Shows a run as it goes. Use as a context manager; a display that fails is switched off, training goes on."""

    def __init__(self, title: str, run_dir: str, total_frames: int, stream: IO[str] | None = None):
        """`title` says what runs; `total_frames` is where it stops, in emulator frames; `stream` is stderr if None."""
        stream = sys.stderr if stream is None else stream
        self._console = _Console(file=stream, highlight=False)
        self._title = title
        self._run_dir = run_dir
        self._total_frames = total_frames
        self._metrics: dict[str, Any] = {}
        self._history: dict[str, collections.deque[float]] = {}
        self._marks: collections.deque[tuple[float, int, int]] = collections.deque()  # seconds, frames, updates
        self._events: collections.deque[str] = collections.deque(maxlen=EVENTS_SHOWN)
        self._started = self._last_line = time.monotonic()
        self._live: Live | None = None
        self._broken = False

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            # Rich's own thread draws, also while the loop waits for a compilation.
            self._live = Live(
                console=self._console,
                get_renderable=self._render_safely,
                refresh_per_second=REFRESHES_PER_SECOND,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._guard(lambda: self._live.start(refresh=True))
        else:  # so that a log file says which run it is
            self._guard(lambda: self._print(f"onelife: {self._title}, in {self._run_dir}"))
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._guard(self._live.stop)
        elif self._metrics:
            self._guard(self._print_line)

    def update(self, metrics: dict[str, Any]) -> None:
        """Takes in a log point (names as in metrics.jsonl); names that it lacks keep their last value."""
        now = time.monotonic()
        self._metrics = {**self._metrics, **metrics}  # a new dict: the display's thread reads the old one
        for name, value in metrics.items():
            if name.startswith("meta/") and _finite(value):
                self._history.setdefault(name, collections.deque(maxlen=4096)).append(float(value))
        self._marks.append((now, self._count("env_frames"), self._count("inner_updates")))
        while len(self._marks) > 2 and now - self._marks[0][0] > RATE_SECONDS:
            self._marks.popleft()
        if self._live is None and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            self._guard(self._print_line)

    def event(self, message: str) -> None:
        """Shows what the user should know; on a terminal the last few stay in sight."""
        self._events.append(f"{time.strftime('%H:%M:%S')} {message}")
        if self._live is None:
            self._guard(lambda: self._print(f"event: {message}"))

    def _guard(self, action: Any) -> None:
        if self._broken:
            return
        try:
            action()
        except Exception:  # a closed terminal must not end a lifetime
            self._broken = True

    def _print_line(self) -> None:
        self._print(self._line())

    def _print(self, text: str) -> None:
        self._console.file.write(text + "\n")
        self._console.file.flush()

    def _count(self, name: str) -> int:
        value = self._metrics.get(name)
        return int(value) if _finite(value) else 0

    def _rates(self) -> tuple[float, float]:
        """(frames, updates) per second over the last half minute."""
        marks = list(self._marks)
        if len(marks) < 2 or marks[-1][0] <= marks[0][0]:
            return math.nan, math.nan
        seconds = marks[-1][0] - marks[0][0]
        return (marks[-1][1] - marks[0][1]) / seconds, (marks[-1][2] - marks[0][2]) / seconds

    def _eta(self, rate: float) -> str:
        left = max(0, self._total_frames - self._count("env_frames"))  # the last batch may go beyond
        return eta(left, rate)

    def _line(self) -> str:
        frames_rate, updates_rate = self._rates()
        frames = self._count("env_frames")
        parts = [
            f"{frames:,} of {self._total_frames:,} frames ({frames / self._total_frames:.1%})",
            f"update {self._count('inner_updates'):,}",
            f"{_short(frames_rate)} frames/s, {_short(updates_rate)} updates/s",
            f"ETA {self._eta(frames_rate)}",
            f"return {_short(self._metrics.get('episode_return_mean'))}",
            f"lag {_short(self._metrics.get('policy_lag'))}",
        ]
        if restarts := self._count("actor_restarts"):
            parts.append(f"restarts {restarts}")
        meta = ", ".join(f"{_meta_name(name)} {_short(history[-1])}" for name, history in self._history.items())
        return " | ".join(parts + ([f"η: {meta}"] if meta else []))

    def _render_safely(self) -> RenderableType:
        try:
            return self._render()
        except Exception as error:  # in rich's thread it would end up as a traceback across the screen
            return Text(f"{self._title}: no display ({error})")

    def _render(self) -> RenderableType:
        frames_rate, updates_rate = self._rates()
        frames, metrics = self._count("env_frames"), self._metrics
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(total=self._total_frames, completed=frames, width=30),
            f"{frames / self._total_frames:.1%}",
            f"ETA {self._eta(frames_rate)}",
            Text(f"running {_duration(time.monotonic() - self._started)}", style="dim"),
        )
        top: list[RenderableType] = [
            Text(self._title, style="bold", overflow="fold"),
            Text(self._run_dir, style="dim", overflow="fold"),
            head,
        ]
        if not metrics:
            return Group(
                *top, Text("starting: environments and compilation, about a minute", style="dim"), *self._tail()
            )
        facts = Table.grid(padding=(0, 3))
        facts.add_row(
            _fact("frames", f"{frames:,} of {self._total_frames:,}"),
            _fact("agent steps", f"{self._count('agent_steps'):,}"),
            _fact("updates", f"{self._count('inner_updates'):,}"),
            _fact("episodes", f"{self._count('episodes'):,}"),
        )
        facts.add_row(
            _fact("rate", f"{_short(frames_rate)} frames/s, {_short(updates_rate)} updates/s"),
            _fact("recent return", _short(metrics.get("episode_return_mean"))),
            _fact("lag", _short(metrics.get("policy_lag"))),
            _fact("restarts", f"{self._count('actor_restarts')}"),
        )
        rows: list[RenderableType] = [*top, facts]
        if self._history:
            meta = Table.grid(padding=(0, 2))
            for name, history in list(self._history.items()):
                values = list(history)
                meta.add_row(
                    Text(_meta_name(name), style="cyan"), f"{values[-1]:.5g}", Text(sparkline(values), style="green")
                )
            rows.append(meta)
        return Group(*rows, *self._tail())

    def _tail(self) -> list[Text]:
        return [Text(event, style="yellow", overflow="ellipsis", no_wrap=True) for event in list(self._events)]


class PartLines:
    """Where there is no terminal: a line on stderr about the part of something that is done, one per interval."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()
        self._first: float | None = None  # done before

    def __call__(self, what: str, part: float) -> None:
        """`what` is being done; `part` of all is, from 0 to 1."""
        now = time.monotonic()
        self._first = part if self._first is None else self._first
        if now - self._last >= LINE_SECONDS:
            self._last = now
            rate = (part - self._first) / (now - self._started)
            print(f"onelife: {what} | {part:.1%} | ETA {eta(1 - part, rate)}", file=sys.stderr, flush=True)


def eta(left: float, rate: float) -> str:
    """How long what is left takes at a rate a second; a dash where nothing moves."""
    return _duration(left / rate) if rate > 0 else "-"


def sparkline(values: list[float], width: int = SPARKLINE_WIDTH) -> str:
    """`values` as a line of at most `width` block characters, lowest to highest; flat where they do not move."""
    if len(values) > width:
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        pairs = itertools.pairwise(edges)
        values = [sum(values[low:high]) / (high - low) for low, high in pairs]
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        return "▁" * len(values)
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * (value - low) / (high - low)))] for value in values)


def _fact(name: str, value: str) -> Text:
    return Text.assemble((f"{name} ", "dim"), value)


def _meta_name(name: str) -> str:
    return name.removeprefix("meta/")


def _finite(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and math.isfinite(value)


def _short(value: Any) -> str:
    """Three significant figures or whole thousands; a dash for what is not there yet."""
    if not _finite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}d {hours:02}:{minutes:02}" if days else f"{hours}:{minutes:02}:{seconds:02}"
