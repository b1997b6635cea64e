"""A table of figures measured in turns: each case's, and how it stands to the first one's of the same turn."""

import statistics
from collections.abc import Callable

from rich.table import Table


def table(
    what: str, unit: str, values: dict[str, list[float]], ratio: str, of: Callable[[float, float], float]
) -> Table:
    """Minimum, median and maximum of each case's figures, and of their ratios.

    Args:
      what: heading of the cases' names.
      unit: of the figures.
      values: by case, one figure for each turn.
      ratio: heading of the ratios.
      of: (figure, first case's) -> ratio.
    """
    found = Table(box=None, pad_edge=False)
    for column in (what, f"{unit}: min", "median", "max", f"{ratio}: min", "median", "max"):
        found.add_column(column, no_wrap=column == what)
    first = next(iter(values.values()))
    for name, own in values.items():
        ratios = [of(value, reference) for value, reference in zip(own, first, strict=True)]
        found.add_row(name, *(f"{f(some):.3g}" for some in (own, ratios) for f in (min, statistics.median, max)))
    return found
