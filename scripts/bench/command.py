"""`onelife bench [WHAT]`: which benchmark."""

import functools
from collections.abc import Callable

from configs.tree import check_choice


def rates(words: list[str], part: str = "rates") -> int:
    from scripts.bench.rates import main as run

    return run(words, part)


def meta(words: list[str]) -> int:
    from scripts.bench.meta import main as run

    return run(words)


def memory(words: list[str]) -> int:
    from scripts.bench.memory import main as run

    return run(words)


def intake(words: list[str]) -> int:
    from scripts.bench.intake import main as run

    return run(words)


def compile(words: list[str]) -> int:
    from scripts.bench.compile import main as run

    return run(words)


def bandit(words: list[str]) -> int:
    from scripts.bench.bandit import main as run

    return run(words)


def peers(words: list[str]) -> int:
    from scripts.bench.peers import main as run

    return run(words)


# Parts of `rates`, by the names that it has for them.
_PARTS = {part: functools.partial(rates, part=part) for part in ("env", "act", "learn", "pipeline", "ray")}
BENCHMARKS: dict[str, Callable[[list[str]], int]] = _PARTS | {
    run.__name__: run for run in (rates, meta, memory, intake, compile, bandit, peers)
}


def main(words: list[str]) -> int:
    """Runs the benchmark that the first word names. Where it names none: `intake` to simulate actors, else `rates`."""
    if not words or words[0].startswith("-"):
        return (intake if "--simulate-actors" in words else rates)(words)
    check_choice("onelife bench", words[0], BENCHMARKS)
    return BENCHMARKS[words[0]](words[1:])
