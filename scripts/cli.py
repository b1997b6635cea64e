"""`onelife`: the command line. Nothing heavy is imported before the input has been found right."""

import sys
from collections.abc import Callable
from importlib import metadata

from configs.tree import ConfigError, nearest
from scripts.huge_pages import ask_for_huge_pages

_HELP = """\
onelife: meta-gradient reinforcement learning, agents that tune their own learning rule in one long life

  onelife train [PRESET] [--key value ...]        train; the default preset is STAC on Atari Pong
  onelife train --resume RUN_DIR [--frames N]     continue a run, further if you like
  onelife train [PRESET] --help                   every setting, with the preset's values
  onelife evaluate RUN_DIR [--episodes N] ...     play a run's newest checkpoint
  onelife report RUN_DIR                          a run's curves as one HTML page
  onelife compare RUN_DIR RUN_DIR ...             several runs in one picture, with intervals over seeds
  onelife presets                                 the presets and what they are
  onelife study NAME | --list                     a study: sweep, figures, and a page with verdicts
  onelife bench [WHAT] ...                        what it costs and how fast it is, side by side
  onelife doctor [--ray]                          check this machine and this installation
  onelife --version
"""


def train(words: list[str]) -> int:
    from scripts.parse import check_run_dir, parse_resume, parse_train

    resumed = parse_resume(words)
    if resumed is not None:
        from scripts.train import resume

        return resume(*resumed)
    config = parse_train(words)
    check_run_dir(config.run_dir)
    from scripts.train import train as run

    return run(config)


def evaluate(words: list[str]) -> int:
    from scripts.evaluate import main as run

    return run(words)


def report(words: list[str]) -> int:
    from scripts.report import main as run

    return run(words)


def compare(words: list[str]) -> int:
    from scripts.compare import main as run

    return run(words)


def presets(words: list[str]) -> int:
    from scripts.presets import main as run

    return run(words)


def study(words: list[str]) -> int:
    from scripts.study import main as run

    return run(words)


def bench(words: list[str]) -> int:
    from scripts.bench.command import main as run

    return run(words)


def doctor(words: list[str]) -> int:
    from scripts.doctor import main as run

    return run(words)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    command.__name__: command for command in (train, evaluate, report, compare, presets, study, bench, doctor)
}
_LEARNING = ("train", "study", "bench")


def version() -> str:
    try:
        return metadata.version("onelife")
    except metadata.PackageNotFoundError:
        return "(not installed; run pip install -e . in the checkout)"


def main(argv: list[str] | None = None) -> int:
    """Runs one command. Returns the exit code: 2 where the input is wrong, told in one line on stderr."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0
    if words[0] in ("--version", "version"):
        print(f"onelife {version()}")
        return 0
    try:
        command = COMMANDS.get(words[0])
        if command is None:
            raise ConfigError(f"{words[0]}: unknown command; choose from {', '.join(COMMANDS)}{_hint(words[0])}")
        if argv is None and words[0] in _LEARNING:  # not where another program calls
            ask_for_huge_pages()
        return command(words[1:])
    except ConfigError as error:
        print(f"onelife: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("onelife: interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:  # tyro and argparse end their help this way
        return stop.code if isinstance(stop.code, int) else 1


def _hint(word: str) -> str:
    return "; did you mean onelife train ...?" if word.startswith("--") else nearest(word, COMMANDS)


if __name__ == "__main__":
    sys.exit(main())
