"""`onelife study`: the command, resuming, and that every study runs at its smallest scale."""

import csv
import json
import multiprocessing
import re
import threading
import time
import warnings
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from configs.tree import ConfigError
from scripts import progress, study
from scripts.cli import main
from scripts.studies import tang_variance
from scripts.studies.base import SCALES, Cell, Figure, Study, Verdict, read_rows, run_study
from scripts.studies.jobs import load_study, side_by_side
from scripts.study import STUDIES
from tests.limits import limited_files

RECORDED = Path(__file__).parents[2] / "docs" / "studies"


def counting(ran, stop_at=None):
    """A study of three cells that notes what was run; it is interrupted in cell `stop_at`."""

    def run(cell, out, tell):
        tell(cell.name, 1.0)
        if cell.name == stop_at:
            raise KeyboardInterrupt
        ran.append(cell.name)
        return [{"seed": seed, "value": cell.content + seed} for seed in range(2)]

    return Study(
        title="Counting",
        question="Does it count?",
        minutes=dict.fromkeys(("smoke", "small", "paper"), "0"),
        seeds={"smoke": 2},
        cells=lambda scale, seeds: [Cell(name, i) for i, name in enumerate("abc")],
        run=run,
        judge=lambda rows: [Verdict("it counts", str(sum(row["value"] for row in rows)), "agree")],
        draw=lambda rows, out: [Figure("none.png", "nothing")],
        setting=lambda scale: "none",
    )


def test_a_study_goes_on_where_it_was_stopped(tmp_path):
    ran = []
    with pytest.raises(KeyboardInterrupt):
        run_study("counting", counting(ran, stop_at="c"), "smoke", 2, tmp_path, lambda what, part: None)
    assert ran == ["a", "b"] and {row["cell"] for row in read_rows(tmp_path / "results.csv")} == {"a", "b"}
    fractions = []
    verdicts = run_study("counting", counting(ran), "smoke", 2, tmp_path, lambda what, part: fractions.append(part))
    assert ran == ["a", "b", "c"] and fractions == [1.0]
    assert verdicts[0].measured == "9.0"
    page = (tmp_path / "README.md").read_text()
    assert "| it counts | 9.0 | **agree** |" in page and "onelife study counting --scale smoke --seeds 2" in page
    with pytest.raises(ConfigError, match="of other settings"):
        run_study("counting", counting(ran), "smoke", 3, tmp_path, lambda what, part: None)


def test_damaged_settings_are_told_in_one_line(tmp_path):
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ConfigError, match="of other settings"):
        run_study("counting", counting([]), "smoke", 2, tmp_path, lambda what, part: None)


def test_a_place_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(ConfigError, match="holds no study"):
        run_study("counting", counting([]), "smoke", 2, tmp_path, lambda what, part: None)


@pytest.mark.parametrize("size", [10, 220])
def test_a_full_disk_is_one_line(tmp_path, size):
    """Where the settings do not fit, or the page."""
    with limited_files(size), pytest.raises(ConfigError, match=r"^--out: .* cannot be written \(File too large\)$"):
        run_study("counting", counting([]), "smoke", 2, tmp_path, lambda what, part: None)
    assert run_study("counting", counting([]), "smoke", 2, tmp_path, lambda what, part: None)  # with room, it goes on


def test_a_place_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^--out: '.*/file' is not a directory$"):
        run_study("counting", counting([]), "smoke", 2, tmp_path / "file", lambda what, part: None)


@pytest.mark.parametrize(
    "words, said",
    [
        ("study", "onelife: study: NAME is missing"),
        ("study nodice_fig55", "did you mean nodice_fig5?"),
        ("study self_tuning --scale smal", "did you mean small?"),
        ("study self_tuning --seeds 0", "--seeds: 0 is not allowed"),
        ("study self_tuning --seeds x", "onelife: --seeds: 'x' is not an integer"),
        ("study self_tuning --seed 3", "--seed: unknown option of onelife study; did you mean --seeds?"),
        ("study self_tuning --jobs 0", "--jobs: 0 is not allowed"),
    ],
)
def test_bad_input_gets_one_line(capsys, words, said):
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_without_a_terminal_a_study_is_told_in_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(study, "load_study", lambda name: counting([]))
    assert main(["study", "self_tuning", "--scale", "smoke", "--out", str(tmp_path / "out")]) == 0
    assert [line.partition(" | ETA")[0] for line in capsys.readouterr().err.splitlines()[1:]] == [
        f"onelife: self_tuning: {cell} | {part}%" for cell, part in (("a", "33.3"), ("b", "66.7"), ("c", "100.0"))
    ]


def test_list_shows_them_all(capsys):
    assert main(["study", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in STUDIES)
    assert out.count("smoke: ") == out.count("paper: ") == len(STUDIES)


def test_cells_side_by_side_give_what_they_give_in_turn(tmp_path):
    parts, tables = [], []
    for jobs in (1, 2):
        study = tang_variance.STUDY
        run_study("tang_variance", study, "smoke", 2, tmp_path / str(jobs), lambda _, part: parts.append(part), jobs)
        tables.append(read_rows(tmp_path / str(jobs) / "results.csv"))
    assert len({row["cell"] for row in tables[0]}) > 1
    for one, other in zip(*tables, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert other[key] == (pytest.approx(value, rel=1e-4, nan_ok=True) if isinstance(value, float) else value)
    assert all(0 <= part <= 1 for part in parts)
    assert not multiprocessing.active_children()


def test_a_process_that_dies_is_told_and_leaves_none_behind(tmp_path):
    cells = side_by_side("tang_variance", "smoke", 2, ["N = 16", "N = 64"], tmp_path, 2, lambda what, part: None)

    def kill() -> None:
        while len(children := multiprocessing.active_children()) < 2:
            time.sleep(0.01)
        children[0].kill()

    threading.Thread(target=kill).start()
    with pytest.raises(BrokenProcessPool):
        list(cells)
    end = time.monotonic() + 30
    while multiprocessing.active_children() and time.monotonic() < end:
        time.sleep(0.01)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("name", STUDIES)
def test_seeds_say_how_much_a_study_repeats(name):
    study = load_study(name)
    assert study.seeds.keys() == set(SCALES)
    few, more = study.cells("small", 2), study.cells("small", 3)
    assert [cell.name for cell in few] == [cell.name for cell in more] and few != more


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", ["liu_bounds", "liu_lirpg", "liu_maml", "nodice_fig2", "nodice_fig5"])
def test_one_seed_decides_nothing_that_needs_an_interval(name, count, tmp_path):
    """From the first seeds of the recorded table; a seed is an MDP or a group of lives in some."""
    study = load_study(name)
    rows = [
        row
        for row in read_rows(RECORDED / name / "results.csv")
        if all(row.get(column, "") in ("", *range(count)) for column in ("seed", "task", "group"))
    ]
    with warnings.catch_warnings(action="error"):
        verdicts, figures = study.judge(rows), study.draw(rows, tmp_path)
    assert figures and all((tmp_path / figure.file).exists() for figure in figures)
    if count == 1:
        decided = [verdict.measured for verdict in verdicts if verdict.verdict != "undecided"]
        assert len(decided) <= 2 and all("largest" in measured for measured in decided)


@pytest.mark.parametrize("name", STUDIES)
def test_a_recorded_page_says_what_its_table_is_judged_to_say(name):
    """The same claims in the same order, their verdicts, and what was measured: recorded tables are rounded."""
    page = (RECORDED / name / "README.md").read_text()
    lines = page.split("| claim | measured | verdict |\n| --- | --- | --- |\n")[1].split("\n\n")[0].splitlines()
    told = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines]
    judged = load_study(name).judge(read_rows(RECORDED / name / "results.csv"))
    expected = [(verdict.claim.replace("|", "\\|"), f"**{verdict.verdict}**") for verdict in judged]
    assert [(claim, verdict) for claim, _, verdict in told] == expected
    for (_, measured, _), verdict in zip(told, judged, strict=True):
        words, numbers = parted(measured)
        own_words, own_numbers = parted(verdict.measured.replace("|", "\\|"))
        assert words == own_words and numbers == pytest.approx(own_numbers, rel=0.02, abs=1e-9), verdict


def parted(measured):
    """A text with its numbers left out, and these."""
    number = r"-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]\d+)?"
    return re.sub(number, "", measured), [float(x.replace(",", "")) for x in re.findall(number, measured)]


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_every_study_runs_at_its_smallest(name, tmp_path, capsys):
    assert main(["study", name, "--scale", "smoke", "--out", str(tmp_path / "out")]) == 0
    out = tmp_path / "out"
    page = (out / "README.md").read_text()
    assert page.count("| **") >= 1
    figures = [line.split("](")[1].split(")")[0] for line in page.splitlines() if line.startswith("![")]
    assert figures and all((out / figure).stat().st_size > 5_000 for figure in figures)
    settings = json.loads((out / "settings.json").read_text())
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["cell"] for row in rows} == set(settings["cells"])
    # What is compared never takes the place of what is swept.
    assert all(f"N = {row['size']}" in row["cell"] for row in rows if name == "tang_maml")
    assert str(out / "README.md") in capsys.readouterr().out
