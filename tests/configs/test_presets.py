"""The presets as a text: what their numbers rest on."""

import re
from pathlib import Path

from configs import presets


def test_every_number_has_a_mark_of_its_source():
    """(S), (R), (C) or (O), on its line or in a comment at most three lines above."""
    lines = Path(presets.__file__).read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("@_preset"))
    mark = re.compile(r"#.*\([SRCO][:)]")
    numbers = [i for i in range(start, len(lines)) if re.search(r"=\(?-?\d", lines[i].split("#")[0])]
    assert len(numbers) > 40
    assert not [lines[i].strip() for i in numbers if not any(map(mark.search, lines[i - 3 : i + 1]))]
