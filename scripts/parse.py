"""`[PRESET] [--key value …]` to an ExperimentConfig, every mistake as one line.

tyro prints the help. It does not parse: it tells mistakes, those of our own validation too, in boxes of many lines.
"""

import argparse
import contextlib
import difflib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import tyro

from configs.experiment import ExperimentConfig, added_since, from_json
from configs.given import check_given
from configs.presets import DEFAULT, PRESETS, preset, summary
from configs.ranges import COUNT, Range
from configs.tree import ConfigError, Setting, from_text, is_tuple, item_type, leaves, nearest, override
from scripts.run_dir import CONFIG, LOCK, read_config

SHORT = {"--rule": "--lpg.rule"}  # what has a short name, and is not a setting of the whole experiment


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are ConfigErrors, so one line; options are spelled out, and given once."""

    def __init__(self, prog: str, description: str):
        self._options: list[str] = []
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action:
        action = super().add_argument(*names, **settings)
        self._options += action.option_strings
        return action

    def add_integer(self, name: str, allowed: Range, **settings: Any) -> None:
        """An option whose value is a number, or numbers, in that range."""

        def read(text: str) -> int:
            try:
                return allowed.check(name, from_text(name.lstrip("-"), int, text))
            except ConfigError as error:
                raise argparse.ArgumentTypeError(str(error).removeprefix(f"{name}: ")) from None

        self.add_argument(name, type=read, **settings)

    def parse_args(self, words: list[str]) -> argparse.Namespace:
        keys = [word.partition("=")[0] for word in words]
        for key in keys:
            if key.startswith("--") and key not in self._options:
                raise ConfigError(f"{key}: unknown option of {self.prog}{nearest(key, self._options)}")
            if key in self._options and keys.count(key) > 1:
                raise ConfigError(f"{key}: given twice")
        options, rest = self.parse_known_args(words)
        if rest:
            raise ConfigError(f"{rest[0]}: unexpected; see {self.prog} --help")
        return options

    def error(self, message: str) -> NoReturn:
        if message.startswith("argument "):
            raise ConfigError(message.removeprefix("argument "))
        raise ConfigError(f"{self.prog.removeprefix('onelife ')}: {message}; see {self.prog} --help")


def parse_train(words: list[str]) -> ExperimentConfig:
    """The experiment that the words after `onelife train` describe. `--help` prints the help and exits."""
    named = bool(words) and not words[0].startswith("-")
    name = words[0] if named else DEFAULT
    default = preset(name)
    words = words[1:] if named else words
    if "--help" in words or "-h" in words:
        print_help(name, default)
        raise SystemExit(0)
    given = parse_words(words, default)
    if given.get("agent", default.agent) == "maml":  # before what else maml asks for is told
        raise ConfigError(
            "--agent: maml takes many lives, each of one window, and onelife train lives one; see docs/agents.md, MAML"
        )
    config = override(default, given)
    check_given(config, [s.path for s in leaves(default) if s.path in given and given[s.path] != s.value])
    return config


def print_help(name: str, default: ExperimentConfig) -> None:
    """Prints every setting with its type, its line of help and its value in the preset."""
    description = (
        f"{summary(name)} The values below are this preset's; `onelife presets` lists the others."
        " `onelife train --resume RUN_DIR [--frames N]` continues a run."
    )
    with contextlib.suppress(SystemExit):
        tyro.cli(
            ExperimentConfig,
            prog=f"onelife train [{name}]",
            description=description,
            args=["--help"],
            default=default,
            config=(tyro.conf.FlagConversionOff,),  # every setting is `--key value`, switches too
        )


def parse_words(words: list[str], config: ExperimentConfig) -> dict[str, Any]:
    """`--key value …` or `--key=value …` to path: value. Raises ConfigError, one line, at the first mistake."""
    settings = {setting.flag: setting for setting in leaves(config)}
    parsed: dict[str, Any] = {}
    index = 0
    while index < len(words):
        key, has_value, value = words[index].partition("=")
        key = SHORT.get(key, key)
        setting = settings.get(key.replace("_", "-"))
        if setting is None:
            raise ConfigError(_unknown(key, settings))
        if setting.path in parsed:
            raise ConfigError(f"{setting.flag}: given twice")
        index += 1
        many = is_tuple(setting.type)
        values = [value] if has_value else []
        while not has_value and index < len(words) and not _is_key(words[index]) and (many or not values):
            values.append(words[index])
            index += 1
        if not many and not values:
            raise ConfigError(f"{setting.flag}: a value is missing")
        for text in values:
            if many and "," in text:
                raise ConfigError(f"{setting.flag}: {text!r} is one word (write {' '.join(text.split(','))})")
        items = [from_text(setting.path, item_type(setting.type), text) for text in values]
        parsed[setting.path] = tuple(items) if many else items[0]
    return parsed


def _unknown(word: str, settings: dict[str, Setting]) -> str:
    if not word.startswith("-"):
        hint = "a preset comes first, before every --key" if word in PRESETS else "settings are given as --key value"
        return f"{word}: unexpected; {hint}"
    if word == "--preset":
        return "--preset: unknown setting; a preset is given by its name alone, before every --key: onelife train smoke"
    key = word.replace("_", "-").lstrip("-").lower()
    # `--lstm` or `--lstn` for `--network.lstm`: the last part of settings' names is compared, too.
    owners = {"resume": ["--resume"]}
    for name in settings:
        full = name.lstrip("-")
        for part in {full, full.rpartition(".")[2]}:
            owners.setdefault(part, []).append(name)
    match = difflib.get_close_matches(key, owners, n=1, cutoff=0.6)
    hint = f"did you mean {' or '.join(owners[match[0]])}?" if match else "see onelife train --help"
    return f"{word}: unknown setting; {hint}"


def _is_key(word: str) -> bool:
    if not word.startswith("-") or word == "-":
        return False
    try:
        float(word)
    except ValueError:
        return True
    return False


def parse_resume(words: list[str]) -> tuple[str, dict[str, int]] | None:
    """`--resume RUN_DIR [--frames N]` to (run directory, overrides); None where `--resume` is not among the words.

    Raises ConfigError where anything else is given or the directory holds no run.
    """
    if not any(word.partition("=")[0] == "--resume" for word in words):
        return None
    given: dict[str, str] = {}
    rest = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    while rest:
        key = rest.pop(0)
        if key not in ("--resume", "--frames"):
            raise ConfigError(f"{key}: cannot be given with --resume, which goes on as before; only --frames N can")
        if key in given:
            raise ConfigError(f"{key}: given twice")
        if not rest or rest[0].startswith("--") or not rest[0]:
            raise ConfigError(f"{key}: a value is missing")
        given[key] = rest.pop(0)
    config = read_run(given["--resume"], "--resume")
    if "--frames" not in given:
        return given["--resume"], {}
    frames = COUNT.check("--frames", from_text("frames", int, given["--frames"]))
    return given["--resume"], {"frames": frames} if frames != config.frames else {}


def read_run(run_dir: str, name: str) -> ExperimentConfig:
    """The settings of the run in `run_dir`. Raises ConfigError, naming the setting `name`, where there is no run.

    Says on stderr which of them are defaults, where an older version wrote the run.
    """
    try:
        data = read_config(run_dir)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    try:
        config = from_json(data)
    except ConfigError as error:
        raise ConfigError(f"{name}: {run_dir}: {error}") from None
    if added := added_since(data):
        print(f"onelife: {run_dir}: {added}", file=sys.stderr)
    return config


@contextlib.contextmanager
def writing(name: str, path: str | Path) -> Iterator[None]:
    """Where the block cannot write `path`, a ConfigError that names it and the setting `name`."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{name}: {str(path)!r} cannot be written ({error.strerror or error})") from None


def check_run_dir(run_dir: str) -> None:
    """Raises ConfigError where a new run cannot live in `run_dir` ("" is the place of unnamed runs). Leaves nothing."""
    path = Path(run_dir or "runs")
    try:
        if run_dir and path.is_dir() and any(entry.name != LOCK for entry in path.iterdir()):
            hint = f"; continue it with --resume {run_dir}" if (path / CONFIG).exists() else ""
            raise ConfigError(f"--run-dir: {run_dir!r} exists and is not empty{hint}")
        existing = next(place for place in (path.absolute(), *path.absolute().parents) if os.path.lexists(place))
        # Root may write where permissions forbid it, and nobody on a read-only or full disk: only writing tells.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except NotADirectoryError:
        raise ConfigError(f"--run-dir: {str(path)!r} cannot be made; {str(existing)!r} is not a directory") from None
    except OSError as error:
        raise ConfigError(f"--run-dir: {str(path)!r} cannot be written ({error.strerror})") from None
