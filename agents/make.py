"""Agents by name. A file of this folder with a function `agent(spec, settings)` is an agent, by the file's name."""

import ast
import functools
import importlib
import re
from pathlib import Path

from agents.config import HYPERPARAMETERS, AgentSettings
from agents.types import Agent, EnvironmentSpec


@functools.cache
def agent_names() -> tuple[str, ...]:
    """Every agent's name. The files are read, not imported: this is asked before anything heavy is."""
    files = Path(__file__).parent.glob("*.py")
    return tuple(sorted(f.stem for f in files if re.search(r"^def agent\(", f.read_text(), re.MULTILINE)))


@functools.cache
def self_tuned_by(name: str) -> tuple[str, ...]:
    """The hyperparameters of the loss that an agent tunes where no setting names them: its file's `SELF_TUNED`.

    Read, not imported, as above: a tuple of names, or `HYPERPARAMETERS`; () where the file has none.
    """
    for statement in ast.parse(Path(__file__).with_name(f"{name}.py").read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "SELF_TUNED":
            value = statement.value
            return HYPERPARAMETERS if ast.unparse(value) == "HYPERPARAMETERS" else tuple(ast.literal_eval(value))
    return ()


def make_agent(name: str, spec: EnvironmentSpec, settings: AgentSettings) -> Agent:
    """The agent called `name` for environments like `spec`."""
    return importlib.import_module(f"agents.{name}").agent(spec, settings)
