"""Bar charts of what a benchmark has measured, beside its JSON."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.figure import panels
from scripts.parse import writing

_APART = 50.0  # from this ratio of the longest bar to the shortest on, they are drawn on a logarithmic scale


def draw_bars(figures: str | Path, measured: Mapping[str, Mapping[str, Sequence[float]]]) -> Path:
    """A panel for each quantity, a bar for each case: its median, with a line from its minimum to its maximum.

    Args:
      figures: the benchmark's JSON; the image lies beside it.
      measured: quantity with its unit -> case -> figures; cases without any are left out.

    Returns the image's path.
    """
    path = Path(figures).with_suffix(".png")
    measured = {what: {name: own for name, own in cases.items() if own} for what, cases in measured.items()}
    measured = {what: cases for what, cases in measured.items() if cases}
    with writing("--out", path), panels(path, len(measured)) as axes:
        for axis, (what, cases) in zip(axes, measured.items(), strict=True):
            draw_panel(axis, what, cases)
    return path


def draw_panel(axis: Any, what: str, cases: Mapping[str, Sequence[float]]) -> None:
    """One quantity of `draw_bars`, the first case on top."""
    middle = [statistics.median(own) for own in cases.values()]
    axis.barh(range(len(cases)), middle, color="#a9c4e6")
    for row, (name, own) in enumerate(cases.items()):
        if len(own) > 1:
            axis.plot([min(own), max(own)], [row + 0.36] * 2, color="#1f4e8c", linewidth=2)  # below the name
        value = f"{middle[row]:,.0f}" if middle[row] >= 100 else f"{middle[row]:.3g}"
        label = f"{name}: {value}"
        axis.annotate(label, (0.01, row), xycoords=("axes fraction", "data"), va="center")
    if max(middle) > _APART * min(middle) > 0:
        axis.set_xscale("log")
    axis.invert_yaxis()
    axis.set(xlabel=what, yticks=[])
