"""What a study is, and how one is run: cell by cell, resumable, to a table, figures and a page."""

import csv
import json
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from configs.tree import ConfigError

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
    seeds: dict[str, int]  # scale -> how many, where the user says nothing; {} where there is nothing to repeat
    cells: Callable[[str, int], list[Cell]]  # (scale, seeds)
    run: Callable[[Cell, Path, Callable[[str, float], None]], list[Row]]  # (cell, out, tell(what, fraction done))
    judge: Callable[[list[Row]], list[Verdict]]
    draw: Callable[[list[Row], Path], list[Figure]]
    setting: Callable[[str], str]  # scale -> sizes and numbers, in a few lines of markdown


def run_study(
    name: str, study: Study, scale: str, seeds: int, out: Path, tell: Callable[[str, float], None]
) -> list[Verdict]:
    """Runs what `out` does not hold yet, then writes the figures and the page. Returns the verdicts.

    Raises ConfigError, one line, where `out` holds another study or another scale.
    """
    cells = study.cells(scale, seeds)
    contents = {cell.name: f"{zlib.crc32(repr(cell.content).encode()):08x}" for cell in cells}
    settings = {"study": name, "scale": scale, "seeds": seeds, "cells": contents}
    _claim(out, settings)
    rows = read_rows(out / RESULTS)
    done = {row["cell"] for row in rows}
    for index, cell in enumerate(cells):
        if cell.name in done:
            continue
        new = study.run(cell, out, lambda what, part, i=index: tell(what, (i + part) / len(cells)))
        rows += [{"cell": cell.name} | row for row in new]
        _write_rows(out / RESULTS, rows)
    rows = read_rows(out / RESULTS)
    verdicts, figures = study.judge(rows), study.draw(rows, out)
    (out / PAGE).write_text(_page(name, study, scale, seeds, verdicts, figures))
    return verdicts


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
    try:
        out.mkdir(parents=True, exist_ok=True)
        path = out / SETTINGS
        if not path.exists() and any(out.iterdir()):
            raise ConfigError(f"--out: {str(out)!r} is not empty and holds no study")
        if path.exists() and json.loads(path.read_text()) != settings:
            raise ConfigError(f"--out: {str(out)!r} holds a study of other settings ({SETTINGS}); name another place")
        path.write_text(json.dumps(settings, indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"--out: {str(out)!r} cannot be written ({error.strerror})") from None


def _page(
    name: str, study: Study, scale: str, seeds: int, verdicts: Sequence[Verdict], figures: Sequence[Figure]
) -> str:
    cells = [[text.replace("|", "\\|") for text in (v.claim, v.measured)] + [f"**{v.verdict}**"] for v in verdicts]
    table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    parts = [
        f"# {study.title}",
        study.question,
        f"    onelife study {name} --scale {scale}" + (f" --seeds {seeds}" if seeds else ""),
        study.setting(scale),
        f"| claim | measured | verdict |\n| --- | --- | --- |\n{table}",
        *(f"![{figure.caption}]({figure.file})\n\n{figure.caption}" for figure in figures),
        f"All numbers: [{RESULTS}]({RESULTS}).",
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"
