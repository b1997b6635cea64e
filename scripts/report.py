"""`onelife report RUN_DIR`: one HTML page that holds all of a run, and curve.png for other documents."""

import html
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.tree import ConfigError
from scripts.figure import GREY, STYLE, axes_grid
from scripts.parse import Parser, read_run
from scripts.run_dir import COMMAND, CONFIG, EVENTS, read_config

REPORT = "report.html"
CURVE = "curve.png"
EVENTS_SHOWN = 200

_BLUE, _GREEN, _ORANGE = "#2563a8", "#2f855a", "#c05621"
_CSS = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22262e; max-width: 1000px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.6em; margin-bottom: .2em } h2 { font-size: 1.15em; margin: 2em 0 .4em }
.facts { display: flex; flex-wrap: wrap; gap: .6em 2.2em; margin: 1em 0 }
.facts div span { display: block; color: #5a6270; font-size: .85em } .facts div { font-size: 1.1em }
svg { max-width: 100%; height: auto } p { color: #5a6270; margin: .3em 0 }
pre { background: #f5f6f8; padding: .8em 1em; overflow-x: auto; font-size: .85em; border-radius: 4px }
summary { cursor: pointer; font-weight: 600; margin-top: 1.2em }
"""

Points = list[dict[str, Any]]


def main(words: list[str]) -> int:
    """Runs the command; returns its exit code."""
    parser = Parser("onelife report", "Writes report.html and curve.png of a run.")
    parser.add_argument("run_dir", metavar="RUN_DIR", help="directory of the run")
    options = parser.parse_args(words)
    read_run(options.run_dir, "RUN_DIR")
    print(write_report(options.run_dir))
    return 0


def write_report(run_dir: str | Path) -> Path:
    """Writes report.html, which needs no other file, and curve.png; returns the page's path.

    Raises ConfigError, one line, where there is no run, nothing is logged yet, or nothing can be written.
    """
    from learner.loggers import METRICS, read_metrics

    run_dir = Path(run_dir)
    config, points = read_config(run_dir), read_metrics(run_dir)
    if not points:
        raise ConfigError(f"{run_dir}: {METRICS} has no log point yet")
    page = _page(run_dir, config, points)
    try:
        (run_dir / REPORT).write_text(page, encoding="utf-8")
        (run_dir / CURVE).write_bytes(_curve(config, points))
    except OSError as error:
        raise ConfigError(f"{run_dir}: the report cannot be written: {error.strerror}") from None
    return run_dir / REPORT


def _page(run_dir: Path, config: dict[str, Any], points: Points) -> str:
    sections = [
        ("Learning curve", "Mean raw return of the last 100 episodes to end, by emulator frames.", _returns(points)),
        ("Meta-parameters η", "In their own units; each starts where the dotted line is.", _meta(points)),
        ("Meta-gradient", "Means over the windows between two log points.", _meta_gradient(points)),
        ("Losses", "Means over the updates between two log points.", _losses(points)),
        ("Rate and lag", "", _rates(points)),
    ]
    title = html.escape(_title(config))
    body = [f"<h1>{title}</h1>", f"<div class=facts>{_facts(run_dir, points)}</div>"]
    body += [f"<h2>{name}</h2>\n<p>{words}</p>\n{svg}" for name, words, svg in sections if svg]
    for name, text, is_open in (
        ("Command and versions", _text(run_dir / COMMAND), True),
        ("Events", _tail(_text(run_dir / EVENTS), EVENTS_SHOWN), False),
        (f"Settings ({CONFIG})", json.dumps(config, indent=2), False),
    ):
        if text:
            attribute = " open" if is_open else ""
            body.append(f"<details{attribute}><summary>{name}</summary><pre>{html.escape(text)}</pre></details>")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{_CSS}</style></head>\n<body>\n' + "\n".join(
        [*body, "</body></html>\n"]
    )


def _title(config: dict[str, Any]) -> str:
    return f"{config.get('agent')} on {config.get('game')}, seed {config.get('seed')}"


def _facts(run_dir: Path, points: Points) -> str:
    last = points[-1]
    facts = {
        "recent return": _number(last.get("episode_return_mean")),
        "best so far": _number(max(_finite(points, "episode_return_mean"), default=None)),
        "episodes": _count(last.get("episodes")),
        "emulator frames": _count(last.get("env_frames")),
        "agent steps": _count(last.get("agent_steps")),
        "inner updates": _count(last.get("inner_updates")),
        "time": _hours(last.get("wall_seconds")),
    }
    try:
        evaluation = json.loads((run_dir / "evaluation.json").read_text())
        facts |= {
            "evaluated return": _number(evaluation.get("return_mean")),
            "human-normalised": _percent(evaluation.get("human_normalised")),
        }
    except (OSError, ValueError):
        pass  # not evaluated
    return "".join(f"<div><span>{name}</span>{value}</div>" for name, value in facts.items() if value)


def _returns(points: Points) -> str:
    if not _finite(points, "episode_return_mean"):
        if not _finite(points, "reward_per_step"):
            return ""
        return _panels(points, [("reward a step", [("reward_per_step", "", _BLUE)], {})], height=3.6, columns=1)
    return _panels(points, [("episode return", [("episode_return_mean", "", _BLUE)], {})], height=3.6, columns=1)


def _meta(points: Points) -> str:
    names = _names(points, "meta/")
    panels = [(name.removeprefix("meta/"), [(name, "", _GREEN)], {"start": True}) for name in names]
    return _panels(points, panels)


def _meta_gradient(points: Points) -> str:
    norms = [
        ("meta_grad/norm", "whole", _BLUE),
        ("meta_grad/direct_norm", "direct part", _GREEN),
        ("meta_grad/correction_norm", "correction part", _ORANGE),
    ]
    panels = [
        ("norm", norms, {"log": True}),
        ("cosine (direct, correction)", [("meta_grad/cosine", "", _BLUE)], {}),
        ("signal-to-noise of streams", [("meta_grad/snr", "", _BLUE)], {}),
    ]
    parts = _names(points, "meta_grad/of_")
    panels += [(f"∂ raw {name.removeprefix('meta_grad/of_')}", [(name, "", _GREEN)], {}) for name in parts]
    return _panels(points, panels)


def _losses(points: Points) -> str:
    inner, outer = _names(points, "loss/"), _names(points, "outer_loss/")
    panels = [(f"inner: {name.removeprefix('loss/')}", [(name, "", _BLUE)], {}) for name in inner]
    panels += [(f"outer: {name.removeprefix('outer_loss/')}", [(name, "", _ORANGE)], {}) for name in outer]
    return _panels(points, panels)


def _rates(points: Points) -> str:
    panels = [
        ("agent steps per second", [("steps_per_second", "", _BLUE)], {"zero": True}),
        ("policy lag (updates)", [("policy_lag", "mean", _BLUE), ("policy_lag_max", "most", _ORANGE)], {"zero": True}),
    ]
    if any(_finite(points, "actor_restarts")):
        panels.append(("actors replaced", [("actor_restarts", "", _ORANGE)], {"zero": True}))
    return _panels(points, panels)


def _panels(points: Points, panels: Sequence[tuple], height: float = 2.3, columns: int = 3) -> str:
    """An inline SVG with a small diagram for each (title, [(name, label, colour)], options) that has any data."""
    panels = [panel for panel in panels if any(_finite(points, name) for name, _, _ in panel[1])]
    if not panels:
        return ""
    import matplotlib
    from matplotlib.figure import Figure

    rows = math.ceil(len(panels) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, height * rows))
        grid = axes_grid(figure, [height] * rows, columns)
        for i, (title, series, options) in enumerate(panels):
            axis = figure.add_subplot(grid[i // columns, i % columns])
            _draw(axis, points, series, **options)
            axis.set_title(title)
            axis.set_xlabel("emulator frames")
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()[file.getvalue().index("<svg") :]


def _draw(
    axis: Any, points: Points, series: Sequence[tuple], log: bool = False, start: bool = False, zero: bool = False
) -> None:
    from matplotlib.ticker import EngFormatter

    for name, label, colour in series:
        pairs = [(p["env_frames"], _value(p.get(name))) for p in points]
        if not _finite(points, name):
            continue
        few = sum(math.isfinite(y) for _, y in pairs) < 20  # a lone point would not show
        axis.plot(*zip(*pairs, strict=True), color=colour, label=label or None, marker="." if few else None)
        if start:
            axis.axhline(_finite(points, name)[0], color=GREY, linewidth=1, linestyle=":")
    if log and any(value > 0 for name, _, _ in series for value in _finite(points, name)):
        axis.set_yscale("log")
    if zero:
        most = max((value for name, _, _ in series for value in _finite(points, name)), default=0)
        axis.set_ylim(0, 1.15 * most or 1)
    if sum(bool(label) and bool(_finite(points, name)) for name, label, _ in series) > 1:
        axis.legend()
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.ticklabel_format(axis="y", useOffset=False) if not log else None
    axis.set_xlim(0, 1.01 * max(points[-1]["env_frames"], 1))


def _curve(config: dict[str, Any], points: Points) -> bytes:
    """PNG: the learning curve above, each meta-parameter below."""
    import matplotlib
    from matplotlib.figure import Figure

    names = _names(points, "meta/")
    columns = 3
    rows = math.ceil(len(names) / columns)
    score = "episode_return_mean" if _finite(points, "episode_return_mean") else "reward_per_step"
    with matplotlib.rc_context(STYLE):
        heights = [4.3] + [2.3] * rows
        figure = Figure(figsize=(10, sum(heights)), dpi=130)
        grid = axes_grid(figure, heights, columns)
        axis = figure.add_subplot(grid[0, :])
        _draw(axis, points, [(score, "", _BLUE)])
        axis.set_title(_title(config), fontsize=13)
        axis.set_ylabel("mean return of the last 100 episodes" if score != "reward_per_step" else "reward a step")
        axis.set_xlabel("emulator frames")
        for i, name in enumerate(names):
            axis = figure.add_subplot(grid[1 + i // columns, i % columns])
            _draw(axis, points, [(name, "", _GREEN)], start=True)
            axis.set_title(f"η: {name.removeprefix('meta/')}")
            axis.set_xlabel("emulator frames")
        file = io.BytesIO()
        figure.savefig(file, format="png")
    return file.getvalue()


def _names(points: Points, prefix: str) -> list[str]:
    names = dict.fromkeys(name for point in points for name in point if name.startswith(prefix))
    return [name for name in names if _finite(points, name)]


def _value(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _finite(points: Points, name: str) -> list[float]:
    return [value for point in points if math.isfinite(value := _value(point.get(name)))]


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except FileNotFoundError:
        return ""


def _tail(text: str, lines: int) -> str:
    return "\n".join(text.splitlines()[-lines:])


def _number(value: Any) -> str:
    return f"{value:,.2f}" if isinstance(value, int | float) else ""


def _count(value: Any) -> str:
    return f"{value:,.0f}" if isinstance(value, int | float) else ""


def _percent(value: Any) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, int | float) else ""


def _hours(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return ""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"
