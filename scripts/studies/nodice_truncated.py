"""No DICE, Figures 3 and 4: what truncated estimators learn, by window and λ; the two differ in η's optimiser."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.figure import panels
from scripts.studies.base import Cell, Figure, Row, Study, Verdict
from scripts.studies.nodice import Learning, draw_paths, ends, learn
from scripts.studies.nodice_plane import WINDOWS
from scripts.studies.verdicts import is_above

LAMBDAS = {"smoke": (0.0, 1.0), "small": (0.0, 0.2, 0.6, 1.0), "paper": (0.0, 0.2, 0.6, 1.0)}
START = (2.0, 2.0)
UPDATES_OF_ETA = {"smoke": 2, "small": 640}
LIVES = {"smoke": 8, "small": 50, "paper": 1_000}
POINTS = {"smoke": 2, "small": 8, "paper": 100}
LOOKS = {"smoke": 20, "small": 1_000, "paper": 100_000}
JUDGES = {"smoke": 20, "small": 40_000, "paper": 100_000}
SEEDS = {"smoke": 2, "small": 10, "paper": 5}
SECONDS = 13 * 0.02  # an update of η by each of the 13 arms, 1000 lives each, on two cores
JUDGED = 13 * 101 * 100_000 * 25e-6  # seconds for the points of a seed, at `paper`
MORE = ", more lives"  # behind the names of arms of more lives an update
Rates = dict[str, Callable[[int], float]]  # scale -> (window) -> the learning rate of η


def truncated_study(figure: int, optimizer: str, rates: Rates, paper_updates: int, more: int = 0) -> Study:
    """The study of one figure: η's optimiser, its learning rate, and how long the paper runs.

    `more`: lives an update of two arms besides, at `small`: λ = 0 and 1 at the longest window.
    """
    days = (SECONDS * paper_updates + JUDGED) * SEEDS["paper"] / 86_400
    paper = f"{days:.0f} days (projected: 0.02 s an update, 0.025 ms a life that judges)"
    updates = UPDATES_OF_ETA | {"paper": paper_updates}

    def cells(scale: str, seeds: int) -> list[Cell]:
        def learning(window: int, weight: float, lives: int) -> Learning:
            settings: dict[str, Any] = {"window": window, "correction": weight}
            settings |= {"meta_optimizer.name": optimizer, "meta_optimizer.learning_rate": rates[scale](window)}
            size = updates[scale], lives, POINTS[scale], LOOKS[scale], JUDGES[scale]
            return Learning(settings, (START,), seeds, *size, life=WINDOWS[scale][-1])

        # At T = 1 no batch lies between the update and the end: λ has nothing to act on.
        arms = [(1, 0.0), *itertools.product(WINDOWS[scale][1:], LAMBDAS[scale])]
        found = [Cell(_arm(*arm), learning(*arm, LIVES[scale])) for arm in arms]
        if more and scale == "small":
            longest = WINDOWS[scale][-1]
            found += [Cell(_arm(longest, weight) + MORE, learning(longest, weight, more)) for weight in (0.0, 1.0)]
        return found

    def setting(scale: str) -> str:
        besides = f" ({more} in two arms besides)" if more and scale == "small" else ""
        rate = ", ".join(f"{rates[scale](window):g} at T = {window}" for window in WINDOWS[scale])
        return (
            f"30 arms, a life of {WINDOWS[scale][-1] + 1} batches of 10 pulls, two learning rates, raw η from {START}."
            f" T is the window in updates, at a place of its own in each life. {optimizer} of rate {rate};"
            f" {updates[scale]:,} updates of η, {LIVES[scale]:,} lives each{besides}. Curves are the mean reward a pull"
            f" of {LOOKS[scale]:,} other lives, at the end, which the claims are about, of {JUDGES[scale]:,};"
            " intervals over seeds hold for all claims together (Bonferroni)."
        )

    return Study(
        title=f"No DICE, Figure {figure}: what truncated meta-gradients learn, with {optimizer}",
        question=(
            "Vuorio et al. 2021: at every truncation a larger sampling correction ends in a better η, though it"
            " sometimes adds bias; longer windows end better, too."
        ),
        minutes={"smoke": "10 s", "small": "10 min", "paper": paper},
        seeds=SEEDS,
        cells=cells,
        run=run,
        judge=judge,
        draw=draw,
        setting=setting,
    )


def _arm(window: int, weight: float) -> str:
    return f"T={window} λ={weight:g}"


def _arms(rows: Sequence[Row]) -> dict[int, list[float]]:
    """T -> its λ, in order."""
    found: dict[int, list[float]] = {}
    for name in dict.fromkeys(row["cell"] for row in rows if not row["cell"].endswith(MORE)):
        window, weight = (part.split("=")[1] for part in name.split())
        found.setdefault(int(window), []).append(float(weight))
    return found


def run(cell: Cell, out: Path, tell: Callable[[str, float], None]) -> list[Row]:
    """A curve of learning for every seed."""
    del out
    return learn(cell.content, lambda part: tell(cell.name, part))


def judge(rows: Sequence[Row]) -> list[Verdict]:
    arms = _arms(rows)
    pairs = [
        (f"T = {window}: λ = {high:g} ends better than λ = {low:g}", _arm(window, high), _arm(window, low))
        for window, weights in arms.items()
        for low, high in itertools.pairwise(weights)
    ]
    pairs += [
        (f"λ = 1: T = {long} ends better than T = {short}", _arm(long, 1.0), _arm(short, arms[short][-1]))
        for short, long in itertools.pairwise(arms)
    ]
    longest = max(arms)
    if any(row["cell"].endswith(MORE) for row in rows):
        claim = f"T = {longest}: with more lives an update λ = 1 ends better than λ = 0"
        pairs.append((claim, _arm(longest, 1.0) + MORE, _arm(longest, 0.0) + MORE))
    verdicts = [is_above(claim, ends(rows, a), ends(rows, b), " a pull", len(pairs) + 1) for claim, a, b in pairs]
    # All windows together say more than each of them.
    long = [window for window, weights in arms.items() if len(weights) > 1]
    naive = np.mean([ends(rows, _arm(window, arms[window][0])) for window in long], axis=0)
    corrected = np.mean([ends(rows, _arm(window, weight)) for window in long for weight in arms[window][1:]], axis=0)
    claim = f"mean over T = {', '.join(map(str, long))}: λ > 0 (its arms' mean) ends better than λ = 0"
    return [*verdicts, is_above(claim, corrected, naive, " a pull", len(pairs) + 1)]


def draw(rows: Sequence[Row], out: Path) -> list[Figure]:
    arms = _arms(rows)
    with panels(out / "curves.png", len(arms), rows=-(-len(arms) // 2)) as axes:
        for axis, (window, weights) in zip(axes, arms.items(), strict=True):
            draw_paths(axis, rows, {f"λ = {weight:g}": _arm(window, weight) for weight in weights})
            axis.set_title(f"T = {window}")
    return [Figure("curves.png", "Mean and 95 % interval over seeds; at T = 1 λ has nothing to act on")]
