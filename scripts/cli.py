"""`onelife`: the command line. Nothing heavy is imported before the input has been found right."""

import importlib
import os
import select
import sys
from importlib import metadata

from configs.tree import ConfigError, nearest
from scripts.huge_pages import ask_for_huge_pages

_BROKEN_PIPE = 141  # as of a process that SIGPIPE ends
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


# Name: the module whose `main` takes the words behind it. `train` looks at them before its module is imported.
_MODULES = {
    "evaluate": "scripts.evaluate",
    "report": "scripts.report",
    "compare": "scripts.compare",
    "presets": "scripts.presets",
    "study": "scripts.study",
    "bench": "scripts.bench.command",
    "doctor": "scripts.doctor",
}
COMMANDS = ("train", *_MODULES)
_LEARNING = ("train", "study", "bench")


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


def version() -> str:
    try:
        return metadata.version("onelife")
    except metadata.PackageNotFoundError:
        return "(not installed; run pip install -e . in the checkout)"


def main(argv: list[str] | None = None) -> int:
    """Runs one command. Returns the exit code: 2 where the input is wrong, told in one line on stderr."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        if argv is None and words and words[0] in _LEARNING:  # not where another program calls
            ask_for_huge_pages()
        code = _run(words)
        sys.stdout.flush()
        return code
    except ConfigError as error:
        print(f"onelife: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("onelife: interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:  # tyro, argparse and, where nobody reads on, rich end this way
        if isinstance(stop.__context__, BrokenPipeError):
            return _BROKEN_PIPE
        return stop.code if isinstance(stop.code, int) else 1
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where Python writes what is left, at its end
        return _BROKEN_PIPE
    except RuntimeError as error:
        if "Unable to initialize backend" not in str(error):
            raise
        print(f"onelife: JAX: {' '.join(str(error).split())}; see onelife doctor", file=sys.stderr)
        return 2


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0
    name, *rest = words
    if name in ("--version", "version"):
        print(f"onelife {version()}")
        return 0
    if name not in COMMANDS:
        raise ConfigError(f"{name}: unknown command; choose from {', '.join(COMMANDS)}{_hint(name)}")
    return train(rest) if name == "train" else importlib.import_module(_MODULES[name]).main(rest)


def _nobody_reads() -> bool:
    """Whether stdout is a pipe whose reader is gone (`onelife doctor | head -1`)."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _hint(word: str) -> str:
    return "; did you mean onelife train ...?" if word.startswith("--") else nearest(word, COMMANDS)


if __name__ == "__main__":
    sys.exit(main())
