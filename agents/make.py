"""Agents by name. A file of this folder with a function `agent(spec, settings)` is an agent, by the file's name."""

import functools
import importlib
import re
from pathlib import Path

from agents.config import AgentSettings
from agents.types import Agent, EnvironmentSpec


@functools.cache
def agent_names() -> tuple[str, ...]:
    """Every agent's name. The files are read, not imported: this is asked before anything heavy is."""
    files = Path(__file__).parent.glob("*.py")
    return tuple(sorted(f.stem for f in files if re.search(r"^def agent\(", f.read_text(), re.MULTILINE)))


def make_agent(name: str, spec: EnvironmentSpec, settings: AgentSettings) -> Agent:
    """The agent called `name` for environments like `spec`."""
    return importlib.import_module(f"agents.{name}").agent(spec, settings)
