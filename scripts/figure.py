"""How figures look, and how one is drawn to a file."""

import contextlib
from collections.abc import Iterator
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


@contextlib.contextmanager
def panels(path: str | Path, count: int = 1, rows: int = 1) -> Iterator[list[Any]]:
    """`count` axes, by rows of equal length, to draw on; the image is written when the block ends."""
    import matplotlib
    from matplotlib.figure import Figure

    columns = -(-count // rows)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5 if columns == 1 else 5.2 * columns, 4.2 * rows), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axis in axes[count:]:
            axis.set_axis_off()
        yield axes[:count]
        figure.savefig(path, dpi=120)
