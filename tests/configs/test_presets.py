"""The presets as a text: what their numbers rest on."""

import re
from pathlib import Path

from configs import presets


def test_every_number_has_a_mark_of_its_source():
    """(S), (R), (C) or (O), on its line or in a line of comment at most three above: a neighbour's does not count."""
    lines = Path(presets.__file__).read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("@_preset"))
    mark = re.compile(r"#.*\([SRCO][:)]")
    numbers = [i for i in range(start, len(lines)) if re.search(r"=\(?-?\d", lines[i].split("#")[0])]
    assert len(numbers) > 40
    comments = [line if line.strip().startswith("#") else "" for line in lines]
    marked = [i for i in numbers if any(map(mark.search, (lines[i], *comments[i - 3 : i])))]
    assert [lines[i].strip() for i in numbers if i not in marked] == []
