"""`onelife bench [WHAT]`: which benchmark."""

import importlib

from configs.tree import check_choice

_HELP = """\
onelife bench: measured side by side, on this machine; a table, figures as JSON, and a chart beside them

  onelife bench rates            emulator, acting, learning and training, collapsed and on Ray (the default)
  onelife bench env | act | learn | pipeline | ray     parts of it
  onelife bench meta             FLOPs and time of an update with its share of the meta-gradient
  onelife bench memory           memory of long windows, by XLA's analysis
  onelife bench compile          from the command to the first update, and the second time
  onelife bench intake           what one learner takes in from actors that replay; also as --simulate-actors N
  onelife bench bandit           No DICE's bandit, here and in PyTorch
  onelife bench peers            IMPALA here, by RLlib and by Sample Factory; installs both, apart, the first time
  onelife bench WHAT --help      its settings
"""


# Each is a module beside this one; parts of `rates` go by the names that it has for them.
_PARTS = ("env", "act", "learn", "pipeline", "ray")
BENCHMARKS = (*_PARTS, "rates", "meta", "memory", "intake", "compile", "bandit", "peers")


def main(words: list[str]) -> int:
    """Runs the benchmark that the first word names. Where it names none: `intake` to simulate actors, else `rates`."""
    if words and words[0] in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0
    if not words or words[0].startswith("-"):
        simulated = any(word.partition("=")[0] == "--simulate-actors" for word in words)
        words = ["intake" if simulated else "rates", *words]
    name, *rest = words
    check_choice("bench", name, BENCHMARKS)
    run = importlib.import_module(f"scripts.bench.{'rates' if name in _PARTS else name}").main
    return run(rest, name) if name in _PARTS else run(rest)
