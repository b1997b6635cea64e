"""`onelife compare RUN_DIR ...`: curves of several runs in one picture, those that differ by their seed as one line."""

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from configs.tree import ConfigError, flag, leaves
from scripts.figure import panels
from scripts.intervals import draw_interval, interval
from scripts.parse import Parser, read_run, writing

OUT = "comparison.png"
POINTS = 100  # of a curve
# What does not make a run another experiment: where, how long and by which processes it is lived.
_SAME = ("seed", "run_dir", "frames", "runtime", "environment.threads")
_SAME_GROUPS = ("log.", "checkpoint.", "pool.", "ray.")
_ANNEALED = ("optimizer.anneal", "meta_optimizer.anneal")  # where one is True, `frames` sets the learning rate

Curve = tuple[np.ndarray, np.ndarray]  # frames and values


class Run(NamedTuple):
    name: str  # its directory, as it was given
    settings: dict[str, Any]  # by path
    points: list[dict[str, Any]]  # of its log


def main(words: list[str]) -> int:
    """Runs the command; returns its exit code: 2 where no run can be read."""
    parser = Parser(
        "onelife compare", "Draws returns and meta-parameters of several runs, with 95 % intervals over seeds."
    )
    parser.add_argument("run_dirs", metavar="RUN_DIR", nargs="+", help="directories of the runs")
    parser.add_argument("--out", default=OUT, metavar="FILE", help=f"where the picture goes (default {OUT})")
    options = parser.parse_args(words)
    if Path(options.out).suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"--out: {options.out!r} is not allowed; it must end in .png, .svg or .pdf")
    runs, skipped = read_runs(options.run_dirs)
    for line in skipped:
        print(f"onelife: skipped: {line}", file=sys.stderr)
    if not runs:
        return 2
    with writing("--out", options.out):
        said = list(draw(grouped(runs), options.out))
    print(*said, options.out, sep="\n")
    return 0


def read_runs(names: Sequence[str]) -> tuple[list[Run], list[str]]:
    """The runs to compare, each life once, and a line for each directory that is left out."""
    runs: dict[Any, Run] = {}  # by settings and seed: a second life of a seed is no second sample
    places: set[Path] = set()
    skipped = []
    for name in names:
        if (place := Path(name).resolve()) in places:
            skipped.append(f"{name} is given twice")
            continue
        places.add(place)
        try:
            run = _read(name)
        except ConfigError as error:
            skipped.append(str(error))
            continue
        same = (*sorted(_experiment(run).items()), run.settings["seed"])
        longer = max(runs.get(same, run), run, key=_end)
        if same in runs:
            shorter = run if longer is runs[same] else runs[same]
            skipped.append(f"{shorter.name} has the settings and the seed ({run.settings['seed']}) of {longer.name}")
        runs[same] = longer
    return list(runs.values()), skipped


def grouped(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Label -> runs of one experiment; the label is its agent, and the settings in which experiments differ."""
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            if _experiment(group[0]) == _experiment(run):
                group.append(run)
                break
        else:
            groups.append([run])
    return {_label(group[0], [other[0] for other in groups]): group for group in groups}


def draw(groups: dict[str, list[Run]], out: str | Path) -> Iterator[str]:
    """Writes the picture; says of each group its score at the last frame that all of its runs have, and if some go on.

    Beyond that frame the line is dashed: the mean over the runs that there are.
    """
    from matplotlib.ticker import EngFormatter

    runs = [run for group in groups.values() for run in group]
    score = "episode_return_mean" if any(map(_has("episode_return_mean"), runs)) else "reward_per_step"
    names = dict.fromkeys(name for run in runs for name in run.points[-1] if name.startswith("meta/"))
    names = [score, *(name for name in names if any(map(_has(name), runs)))]
    lines = {}
    with panels(out, len(names), math.ceil(len(names) / 3)) as axes:
        for axis, name in zip(axes, names, strict=True):
            for i, (label, group) in enumerate(groups.items()):
                shown = list(filter(_has(name), group))
                if not shown:
                    continue
                frames, values = _curves(shown, name)
                draw_interval(axis, frames, values, label, color=f"C{i}")
                if goes_on := _goes_on(shown):
                    axis.plot(*_tail(shown, name, frames[-1]), color=f"C{i}", linestyle="--")
                if name == score:
                    lines[label] = [_said(frames[-1], values[-1]), *([goes_on] if goes_on else [])]
            axis.set_title(name.removeprefix("meta/").replace("_", " "))
            axis.set_xlabel("emulator frames")
            axis.set_xlim(left=0)
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
            axis.ticklabel_format(axis="y", useOffset=False)
            if axis.lines:  # there may be no score yet
                axis.legend()
    for label in groups:
        first, *others = lines.get(label, ["not known yet"])
        yield f"{label}: {score} {first}"
        yield from (f"{label}: {line}" for line in others)


def _said(frames: float, values: np.ndarray) -> str:
    if len(values) == 1:
        return f"{values[0]:.4g} after {frames:,.0f} frames, one seed: no interval"
    return f"{interval(values)} after {frames:,.0f} frames, {len(values)} runs"


def _goes_on(group: Sequence[Run]) -> str:
    """Which run is the shortest, where others go on for more than a point of the picture; "" where none does."""
    shortest, longest = min(group, key=_end), max(group, key=_end)
    if _end(longest) - _end(shortest) <= _end(longest) / POINTS:
        return ""
    return (
        f"{shortest.name} ends at {_end(shortest):,.0f} frames, {longest.name} at {_end(longest):,.0f}; dashed beyond"
        f" {_end(shortest):,.0f}: the mean over the runs there are"
    )


def _end(run: Run) -> float:
    return run.points[-1]["env_frames"]


def _read(name: str) -> Run:
    from learner.loggers import METRICS, read_metrics

    config = read_run(name, "RUN_DIR")
    try:
        points = [point for point in read_metrics(name) if isinstance(point.get("env_frames"), int | float)]
    except OSError as error:
        raise ConfigError(f"{name}: {METRICS} cannot be read: {error.strerror}") from None
    if not points:
        raise ConfigError(f"{name}: {METRICS} has no log point yet")
    return Run(name, {setting.path: setting.value for setting in leaves(config)}, points)


def _experiment(run: Run) -> dict[str, Any]:
    same = [path for path in _SAME if path != "frames" or not any(run.settings[other] for other in _ANNEALED)]
    kept = {path: value for path, value in run.settings.items() if path not in same}
    return {path: value for path, value in kept.items() if not path.startswith(_SAME_GROUPS)}


def _label(run: Run, others: Sequence[Run]) -> str:
    """Agents differ in much; what else differs is told among the runs of one agent, and the game among all."""
    alike = [_experiment(other) for other in others if other.settings["agent"] == run.settings["agent"]]
    told = [path for path, value in _experiment(run).items() if any(other.get(path, value) != value for other in alike)]
    if any(other.settings["game"] != run.settings["game"] for other in others) and "game" not in told:
        told.insert(0, "game")
    return ", ".join([run.settings["agent"], *(f"{flag(path)} {_text(run.settings[path])}" for path in told)])


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _curves(runs: Sequence[Run], name: str) -> Curve:
    """Frames [points] up to where the shortest run has come, and a value of each run [points, runs]."""
    curves = [_curve(run, name) for run in runs]
    first, last = (end(frames[i] for frames, _ in curves) for end, i in ((max, 0), (min, -1)))
    frames = np.linspace(min(first, last), last, POINTS)
    return frames, np.stack([np.interp(frames, *curve) for curve in curves], axis=1)


def _tail(runs: Sequence[Run], name: str, since: float) -> Curve:
    """Frames [points] from `since` to where the longest run has come, and the mean over those that have come there."""
    curves = [_curve(run, name) for run in runs]
    frames = np.linspace(since, max(frames[-1] for frames, _ in curves), POINTS)
    return frames, np.nanmean([np.interp(frames, *curve, right=np.nan) for curve in curves], axis=0)


def _curve(run: Run, name: str) -> Curve:
    pairs = [(point["env_frames"], point.get(name)) for point in run.points]
    known = [pair for pair in pairs if isinstance(pair[1], int | float) and math.isfinite(pair[1])]
    frames, values = np.array(known, float).reshape(-1, 2).T
    return frames, values


def _has(name: str) -> Any:
    return lambda run: len(_curve(run, name)[0]) > 0
