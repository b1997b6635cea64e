"""`onelife compare RUN_DIR ...`: curves of several runs in one picture, those that differ by their seed as one line."""

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from configs.tree import ConfigError, flag, leaves
from scripts.figure import panels
from scripts.parse import Parser, read_run
from scripts.studies.statistics import draw_interval, interval

OUT = "comparison.png"
POINTS = 100  # of a curve
# What does not make a run another experiment: where, how long and by which processes it is lived.
_SAME = ("seed", "run_dir", "frames", "runtime", "environment.threads")
_SAME_GROUPS = ("log.", "checkpoint.", "pool.", "ray.")


class Run(NamedTuple):
    settings: dict[str, Any]  # by path
    points: list[dict[str, Any]]  # of its log


def main(words: list[str]) -> int:
    """Runs the command; returns its exit code: 2 where the input is wrong, told in one line on stderr."""
    parser = Parser(
        prog="onelife compare",
        description="Draws returns and meta-parameters of several runs, with 95 % intervals over seeds.",
        allow_abbrev=False,
    )
    parser.add_argument("run_dirs", metavar="RUN_DIR", nargs="+", help="directories of the runs")
    parser.add_argument("--out", default=OUT, metavar="FILE", help=f"where the picture goes (default {OUT})")
    try:
        options = parser.parse_args(words)
        if Path(options.out).suffix not in (".png", ".svg", ".pdf"):
            raise ConfigError(f"--out: {options.out!r} is not allowed; it must end in .png, .svg or .pdf")
        groups = grouped([_read(name) for name in options.run_dirs])
        for line in draw(groups, options.out):
            print(line)
    except ConfigError as error:
        print(f"onelife: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"onelife: --out: {options.out} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    print(options.out)
    return 0


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
    """Writes the picture; a line of text for each group: its score at the last frame that all of its runs have."""
    from matplotlib.ticker import EngFormatter

    runs = [run for group in groups.values() for run in group]
    score = "episode_return_mean" if any(map(_has("episode_return_mean"), runs)) else "reward_per_step"
    names = dict.fromkeys(name for run in runs for name in run.points[-1] if name.startswith("meta/"))
    names = [score, *(name for name in names if any(map(_has(name), runs)))]
    lines = {}
    with panels(out, len(names), math.ceil(len(names) / 3)) as axes:
        for axis, name in zip(axes, names, strict=True):
            for label, group in groups.items():
                frames, values = _curves(group, name)
                if not len(frames):
                    continue
                draw_interval(axis, frames, values, label)
                if name == score:
                    runs_of = f"{values.shape[1]} run{'s' * (values.shape[1] > 1)}"
                    lines[label] = f"{interval(values[-1])} after {frames[-1]:,.0f} frames, {runs_of}"
            axis.set_title(name.removeprefix("meta/").replace("_", " "))
            axis.set_xlabel("emulator frames")
            axis.set_xlim(left=0)
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
            axis.ticklabel_format(axis="y", useOffset=False)
            axis.legend()
    for label in groups:
        yield f"{label}: {score} {lines.get(label, 'not known yet')}"


def _read(name: str) -> Run:
    from learner.loggers import METRICS, read_metrics

    config, points = read_run(name, "RUN_DIR"), read_metrics(name)
    if not points:
        raise ConfigError(f"{name}: {METRICS} has no log point yet")
    return Run({setting.path: setting.value for setting in leaves(config)}, points)


def _experiment(run: Run) -> dict[str, Any]:
    kept = {path: value for path, value in run.settings.items() if path not in _SAME}
    return {path: value for path, value in kept.items() if not path.startswith(_SAME_GROUPS)}


def _label(run: Run, others: Sequence[Run]) -> str:
    """Agents differ in much; what else differs is told among the runs of one agent, and the game among all."""
    alike = [_experiment(other) for other in others if other.settings["agent"] == run.settings["agent"]]
    told = [path for path, value in _experiment(run).items() if any(other[path] != value for other in alike)]
    if any(other.settings["game"] != run.settings["game"] for other in others) and "game" not in told:
        told.insert(0, "game")
    return ", ".join([run.settings["agent"], *(f"{flag(path)} {_text(run.settings[path])}" for path in told)])


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _curves(runs: Sequence[Run], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Frames [points] up to where the shortest run has come, and a value of each run that has any [points, runs]."""
    curves = [curve for run in runs if len((curve := _curve(run, name))[0])]
    if not curves:
        return np.zeros(0), np.zeros((0, 0))
    first, last = (end(frames[i] for frames, _ in curves) for end, i in ((max, 0), (min, -1)))
    frames = np.linspace(min(first, last), last, POINTS)
    return frames, np.stack([np.interp(frames, *curve) for curve in curves], axis=1)


def _curve(run: Run, name: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(point["env_frames"], point.get(name)) for point in run.points]
    known = [pair for pair in pairs if isinstance(pair[1], int | float) and math.isfinite(pair[1])]
    frames, values = np.array(known, float).reshape(-1, 2).T
    return frames, values


def _has(name: str) -> Any:
    return lambda run: len(_curve(run, name)[0]) > 0
