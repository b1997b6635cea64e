"""How figures look, and how one is drawn to a file."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

GREY = "#5a6270"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelcolor": GREY,
    "axes.edgecolor": "#b8bec8",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8ebef",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.framealpha": 0.7,
    "legend.edgecolor": "none",
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "onelife",  # the same run gives the same bytes
}


def axes_grid(figure: Any, heights: Sequence[float], columns: int) -> Any:
    """Axes in rows of these heights (inches, with their labels) -> [rows, columns] grid to take subplots from.

    Margins are fixed: to fit them to the labels (matplotlib's layout engines) takes as long as all the drawing.
    """
    left, right, top, bottom = 0.95, 0.12, 0.32, 0.5  # inches: y labels, none, title, x labels
    width, height = figure.get_size_inches()
    inner = [h - top - bottom for h in heights]
    each = (width - columns * (left + right)) / columns
    return figure.add_gridspec(
        len(heights),
        columns,
        height_ratios=inner,
        left=left / width,
        right=1 - right / width,
        bottom=bottom / height,
        top=1 - top / height,
        wspace=(left + right) / each,
        hspace=(top + bottom) / (sum(inner) / len(inner)),
    )


@contextlib.contextmanager
def panels(path: str | Path, count: int = 1, rows: int = 1) -> Iterator[list[Any]]:
    """`count` axes, by rows of equal length, to draw on; the image is written when the block ends."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    columns = math.ceil(count / rows)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5 if columns == 1 else 5.2 * columns, 4.2 * rows))
        grid = axes_grid(figure, [4.2] * rows, columns)
        axes = [figure.add_subplot(grid[i // columns, i % columns]) for i in range(count)]
        yield axes
        for one in axes:
            if one.get_xscale() == "log" and one.get_xlim()[1] < 1_000 * one.get_xlim()[0]:
                # Within three decades matplotlib labels too much or nothing.
                one.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                one.xaxis.set_major_formatter("{x:g}")
                one.xaxis.set_minor_formatter(NullFormatter())
        figure.savefig(path, dpi=120)
