"""`onelife bench [WHAT]`: which benchmark."""

from collections.abc import Callable

from configs.tree import check_choice


def rates(words: list[str]) -> int:
    from scripts.bench.rates import main as run

    return run(words)


def meta(words: list[str]) -> int:
    from scripts.bench.meta import main as run

    return run(words)


def bandit(words: list[str]) -> int:
    from scripts.bench.bandit import main as run

    return run(words)


BENCHMARKS: dict[str, Callable[[list[str]], int]] = {run.__name__: run for run in (rates, meta, bandit)}


def main(words: list[str]) -> int:
    """Runs the benchmark that the first word names, `rates` where it names none. Returns the exit code."""
    if not words or words[0].startswith("-"):
        return rates(words)
    check_choice("onelife bench", words[0], BENCHMARKS)
    return BENCHMARKS[words[0]](words[1:])
