"""`onelife study`: runs a study, or lists them."""

import os
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from configs.ranges import COUNT
from configs.tree import ConfigError, check_choice
from scripts.compile_cache import compiled_for
from scripts.parse import Parser
from scripts.progress import PartLines
from scripts.studies.base import PAGE, SCALES, Study, run_study, times
from scripts.studies.jobs import load_study

STUDIES = (
    "nodice_fig1",
    "nodice_fig2",
    "nodice_fig3",
    "nodice_fig4",
    "nodice_fig5",
    "tang_variance",
    "tang_maml",
    "liu_maml",
    "liu_lirpg",
    "liu_bounds",
    "liu_ipd",
    "lifetime_correction",
    "bmg_two_colors",
    "self_tuning",
    "maml_catch",
    "lpg_grid",
    "lirpg_delayed",
)


def main(words: list[str]) -> int:
    """Runs the command; returns its exit code."""
    parser = Parser("onelife study", "Runs a study; goes on where it was stopped.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="which; --list shows them")
    parser.add_argument("--list", action="store_true", help="what there is, and how long each takes")
    parser.add_argument("--scale", default="small", help=f"{', '.join(SCALES)} (default: small)")
    parser.add_integer("--seeds", COUNT, help="how many; the default is the scale's own")
    parser.add_integer("--jobs", COUNT, help="cells side by side (default: one to a core; 1 at smoke and on GPUs)")
    parser.add_argument("--out", help="where its table, figures and page go (default: studies/NAME-SCALE)")
    options = parser.parse_args(words)
    if options.list:
        return _list()
    if options.name is None:
        raise ConfigError("study: NAME is missing; --list shows them")
    check_choice("NAME", options.name, STUDIES)
    check_choice("--scale", options.scale, SCALES)
    study = load_study(options.name)
    seeds = options.seeds or study.seeds[options.scale]
    out = Path(options.out or f"studies/{options.name}-{options.scale}")
    return _run(options.name, study, options.scale, seeds, out, _jobs(options))


def _list() -> int:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    for name in STUDIES:
        study = load_study(name)
        table.add_row(name, f"{study.title}\n[dim]{times(study)}[/]")
    Console(highlight=False).print(table)
    return 0


def _jobs(options: Any) -> int:
    """A cell to a core where programs run on the CPU and compiling is not nearly all of the work."""
    if options.jobs is not None:
        return options.jobs
    if options.scale == "smoke":
        return 1
    import jax

    return len(os.sched_getaffinity(0)) if jax.default_backend() == "cpu" else 1


def _run(name: str, study: Study, scale: str, seeds: int, out: Path, jobs: int) -> int:
    console = Console(stderr=True, highlight=False)
    console.print(f"{name} at {scale} on two CPU cores: {study.minutes[scale]}")
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    try:
        columns = (*columns, TimeElapsedColumn(), TimeRemainingColumn())
        progress = Progress(*columns, console=console, disable=not console.is_terminal)
        lines = PartLines()
        with progress as bar, compiled_for(scale):
            task = bar.add_task(name, total=1.0)

            def tell(what: str, fraction: float) -> None:
                if console.is_terminal:
                    bar.update(task, description=f"{name}: {what}", completed=fraction)
                else:
                    lines(f"{name}: {what}", fraction)

            verdicts = run_study(name, study, scale, seeds, out, tell, jobs)
    except KeyboardInterrupt:
        print(f"onelife: stopped; the same command goes on from what {out} holds", file=sys.stderr)
        return 130
    except BrokenProcessPool:
        print(
            f"onelife: a process of the study died (of too little memory?); with a smaller --jobs than {jobs} the same"
            f" command goes on from what {out} holds",
            file=sys.stderr,
        )
        return 1
    for verdict in verdicts:
        print(f"{verdict.verdict:>10}  {verdict.claim}: {verdict.measured}")
    print(out / PAGE)
    return 0
