"""Walking the settings tree: its leaves, their types and their names on the command line."""

import ast
import dataclasses
import difflib
import inspect
import itertools
import math
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

_FLOAT32_MIN, _FLOAT32_MAX = 1.1754944e-38, 3.4028234e38  # of normal numbers: smaller ones count as 0


class ConfigError(ValueError):
    """A setting that cannot be used. The message is one line: the setting, its value, what is allowed."""


class Setting(NamedTuple):
    """One leaf of the settings tree."""

    path: str  # "network.lstm"
    type: Any  # str, int, float, bool, a Literal of strings, or tuple[x, ...] of int or such a Literal
    value: Any

    @property
    def flag(self) -> str:
        return flag(self.path)


def flag(path: str) -> str:
    """`network.lstm` -> `--network.lstm`, as it is typed on the command line."""
    return "--" + path.replace("_", "-")


def leaves(config: Any, prefix: str = "") -> Iterator[Setting]:
    """The settings of a dataclass instance, depth first, in the order of their definition."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(field.type):
            if not isinstance(value, field.type):
                raise ConfigError(f"{flag(prefix + field.name)}: {value!r} is not a {field.type.__name__}")
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield Setting(prefix + field.name, field.type, value)


def override(config: Any, values: dict[str, Any]) -> Any:
    """A copy of a dataclass with other values at some paths, checked as a whole once they are all in place."""
    changes: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        name, _, rest = path.partition(".")
        if rest:
            groups.setdefault(name, {})[rest] = value
        else:
            changes[name] = value
    changes |= {name: override(getattr(config, name), inner) for name, inner in groups.items()}
    return dataclasses.replace(config, **changes)


def help_texts(config: Any, prefix: str = "") -> dict[str, str]:
    """path -> line of help: the string below each field of a dataclass and of those inside it."""
    cls = config if isinstance(config, type) else type(config)
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body
    below = {
        field.target.id: " ".join(text.value.value.split())
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
    texts = {}
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(field.type):
            texts |= help_texts(field.type, f"{prefix}{field.name}.")
        else:
            texts[prefix + field.name] = below.get(field.name, "")
    return texts


def choices(kind: Any) -> tuple[str, ...]:
    """The allowed values of a setting that has a fixed list of them, else ()."""
    if kind is bool:
        return ("True", "False")
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def is_tuple(kind: Any) -> bool:
    return isinstance(kind, types.GenericAlias) and typing.get_origin(kind) is tuple


def item_type(kind: Any) -> Any:
    """The type of one word of a setting: the item's where it is a list."""
    return typing.get_args(kind)[0] if is_tuple(kind) else kind


def nearest(word: str, allowed: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest of `allowed`, or nothing where none is near."""
    by_lower = {name.lower(): name for name in allowed}
    match = difflib.get_close_matches(str(word).lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[match[0]]}?" if match else ""


def check_choice(name: str, value: Any, allowed: Iterable[str]) -> None:
    allowed = tuple(allowed)
    if value not in allowed:
        raise ConfigError(f"{name}: {value!r} is unknown; choose from {', '.join(allowed)}{nearest(value, allowed)}")


def check_type(setting: Setting) -> None:
    """Raises ConfigError where a value is not of its setting's type; NaN and infinities are not numbers here."""
    name, kind, value = setting.flag, setting.type, setting.value
    if is_tuple(kind):
        if not isinstance(value, tuple):
            raise ConfigError(f"{name}: {value!r} is not a list")
        for item in value:
            check_type(Setting(setting.path, item_type(kind), item))
    elif kind is bool:
        if not isinstance(value, bool):
            raise ConfigError(f"{name}: {value!r} is not True or False")
    elif choices(kind):
        check_choice(name, value, choices(kind))
    elif kind is int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigError(f"{name}: {value!r} is not an integer")
    elif kind is float:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise ConfigError(f"{name}: {value!r} is not a number")
        if not math.isfinite(value):
            raise ConfigError(f"{name}: {value} is not a finite number")
        if abs(value) > _FLOAT32_MAX:
            raise ConfigError(f"{name}: {value} is not allowed; float32 ends at {_FLOAT32_MAX:.3g}")
        if 0 < abs(value) < _FLOAT32_MIN:
            raise ConfigError(f"{name}: {value} is not allowed; float32 begins at {_FLOAT32_MIN:.3g}, next to 0")
    elif not isinstance(value, str):
        raise ConfigError(f"{name}: {value!r} is not text")


def from_text(path: str, kind: Any, text: str) -> Any:
    """One word of the command line as a value of type `kind` (an item of it for tuples), or ConfigError."""
    name = flag(path)
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"{name}: {text!r} is not True or False")
        return text.lower() == "true"
    if choices(kind):
        check_choice(name, text, choices(kind))
        return text
    if kind is str:
        return text
    try:
        return float(text) if kind is float else int(text)
    except ValueError:
        if kind is float:
            raise ConfigError(f"{name}: {text!r} is not a number") from None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    hint = f" (write {int(number)})" if math.isfinite(number) and number.is_integer() else ""
    raise ConfigError(f"{name}: {text!r} is not an integer{hint}")
