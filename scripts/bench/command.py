"""`onelife bench [WHAT]`: which benchmark."""

import functools
from collections.abc import Callable

from configs.tree import check_choice

_HELP = """\
onelife bench: measured side by side, on this machine; a table, figures as JSON, and a chart beside them

  onelife bench rates            emulator, acting, learning and training, collapsed and on Ray (the default)
  onelife bench env | act | learn | pipeline | ray     parts of it
  onelife bench meta             FLOPs and time of an update with its share of the meta-gradient
  onelife bench memory           memory of long windows, by XLA's analysis
  onelife bench compile          from the command to the first update, and the second time
  onelife bench --simulate-actors N     what one learner takes in from N actors that replay
  onelife bench bandit           No DICE's bandit, here and in PyTorch
  onelife bench peers            IMPALA here, by RLlib and by Sample Factory; installs both, apart, the first time
  onelife bench WHAT --help      its settings
"""


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
    if words and words[0] in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0
    if not words or words[0].startswith("-"):
        return (intake if "--simulate-actors" in words else rates)(words)
    check_choice("onelife bench", words[0], BENCHMARKS)
    return BENCHMARKS[words[0]](words[1:])
