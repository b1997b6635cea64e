"""Spelling of games' names."""

import difflib
import re
from collections.abc import Iterable


def match_name(name: str, choices: Iterable[str], what: str) -> str:
    """The choice that `name` spells, letter case, underscores and EnvPool's suffix "-v5" aside.

    Raises ValueError, one line that says `what` is allowed and which choice is nearest, if there is none.
    """
    squashed = {_squash(choice): choice for choice in choices}
    key = _squash(name)
    if key in squashed:
        return squashed[key]
    near = difflib.get_close_matches(key, squashed, n=1, cutoff=0.5)
    hint = f"; did you mean {squashed[near[0]]}?" if near else ""
    raise ValueError(f"unknown game {name!r}: not {what}{hint}")


def _squash(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.lower().removesuffix("-v5"))
