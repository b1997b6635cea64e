"""What a study is, and how one is run: cell by cell, resumable, to a table, figures and a page."""

import csv
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from configs.tree import ConfigError
from scripts.parse import writing
from scripts.studies.jobs import side_by_side

RESULTS, PAGE, SETTINGS = "results.csv", "README.md", "settings.json"
SCALES = ("smoke", "small", "paper")

Row = dict[str, Any]


class Cell(NamedTuple):
    """One piece of a study's sweep: what is run, saved and resumed as a whole."""

    name: str
    content: Any  # what `Study.run` needs to know


class Verdict(NamedTuple):
    """One claim and what became of it."""

    claim: str
    measured: str  # with its statistic
    verdict: Literal["agree", "disagree", "undecided"]


class Figure(NamedTuple):
    file: str
    caption: str


class Study(NamedTuple):
    """`rows` are those of all cells, each with its "cell"; numbers come back from the table as floats."""

    title: str
    question: str  # what the paper claims or we ask, with its source
    minutes: dict[str, str]  # scale -> time on two cores, measured, or projected where it says so
    seeds: dict[str, int]  # scale -> how many, where the user says nothing
    cells: Callable[[str, int], list[Cell]]  # (scale, seeds)
    run: Callable[[Cell, Path, Callable[[str, float], None]], list[Row]]  # (cell, out, tell(what, fraction done))
    judge: Callable[[list[Row]], list[Verdict]]
    draw: Callable[[list[Row], Path], list[Figure]]
    setting: Callable[[str], str]  # scale -> sizes and numbers, in a few lines of markdown


def times(study: Study) -> str:
    return "; ".join(f"{scale}: {study.minutes[scale]}" for scale in SCALES)


def run_study(
    name: str, study: Study, scale: str, seeds: int, out: Path, tell: Callable[[str, float], None], jobs: int = 1
) -> list[Verdict]:
    """Runs what `out` does not hold yet, then writes the figures and the page. Returns the verdicts.

    With more than one of `jobs`, cells run side by side: of a study that `scripts.studies` has under this name.

    Raises ConfigError, one line, where `out` holds another study or another scale.
    """
    cells = study.cells(scale, seeds)
    contents = {cell.name: f"{zlib.crc32(repr(cell.content).encode()):08x}" for cell in cells}
    settings = {"study": name, "scale": scale, "seeds": seeds, "cells": contents}
    _claim(out, settings)
    rows = read_rows(out / RESULTS)
    done = {row["cell"] for row in rows}
    order = [cell.name for cell in cells]
    left = [cell for cell in cells if cell.name not in done]

    def tell_all(what: str, part: float) -> None:
        tell(what, 1 - len(left) / len(cells) * (1 - part))

    if jobs > 1 and len(left) > 1:
        names = [cell.name for cell in left]
        found = side_by_side(name, scale, seeds, names, out, min(jobs, len(left)), tell_all)
    else:
        found = _in_turn(study, left, out, tell_all)
    for cell_name, new in found:
        rows += [{"cell": cell_name} | row for row in new]
        rows.sort(key=lambda row: order.index(row["cell"]))
        with writing("--out", out):
            _write_rows(out / RESULTS, rows)
    rows = read_rows(out / RESULTS)
    verdicts = study.judge(rows)
    with writing("--out", out):
        page = _page(name, study, scale, seeds, verdicts, study.draw(rows, out))
        (out / PAGE).write_text(page)
    return verdicts


def _in_turn(
    study: Study, cells: Sequence[Cell], out: Path, tell: Callable[[str, float], None]
) -> Iterator[tuple[str, list[Row]]]:
    for index, cell in enumerate(cells):
        yield cell.name, study.run(cell, out, lambda what, part, i=index: tell(what, (i + part) / len(cells)))


def read_rows(path: Path) -> list[Row]:
    """The table, numbers as floats; [] where there is none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    """All rows at once and atomically: a table that was interrupted holds whole cells only."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(part, path)


def _claim(out: Path, settings: dict[str, Any]) -> None:
    path = out / SETTINGS
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out: {str(out)!r} is not a directory")
    with writing("--out", out):
        out.mkdir(parents=True, exist_ok=True)
        if path.exists():
            if _settings(path) != settings:
                raise ConfigError(
                    f"--out: {str(out)!r} holds a study of other settings ({SETTINGS}); name another place"
                )
            return
        if any(out.iterdir()):
            raise ConfigError(f"--out: {str(out)!r} is not empty and holds no study")
        try:
            path.write_text(json.dumps(settings, indent=1) + "\n")
        except OSError:
            path.unlink(missing_ok=True)  # a part of them would be another study's
            raise


def _settings(path: Path) -> Any:
    """None where the file is damaged: of no study that could go on."""
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def _page(
    name: str, study: Study, scale: str, seeds: int, verdicts: Sequence[Verdict], figures: Sequence[Figure]
) -> str:
    cells = [[text.replace("|", "\\|") for text in (v.claim, v.measured)] + [f"**{v.verdict}**"] for v in verdicts]
    table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    parts = [
        f"# {study.title}",
        study.question,
        f"    onelife study {name} --scale {scale} --seeds {seeds}",
        f"On two CPU cores: {times(study)}.",
        study.setting(scale),
        f"| claim | measured | verdict |\n| --- | --- | --- |\n{table}",
        *(f"![{figure.caption}]({figure.file})\n\n{figure.caption}" for figure in figures),
        f"All numbers: [{RESULTS}]({RESULTS}).",
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"
