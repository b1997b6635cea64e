"""docs/configuration.md: `python -m scripts.configuration` writes it from the settings tree."""

from pathlib import Path
from typing import Any

from agents.make import agent_names
from configs.experiment import ExperimentConfig
from configs.presets import DEFAULT, PRESETS, summary
from configs.ranges import RANGES
from configs.tree import Setting, choices, help_texts, is_tuple, item_type, leaves

PATH = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"

_HEAD = f"""\
# Configuration

Written by `python -m scripts.configuration` from the settings tree (`configs/experiment.py`): do not edit by hand.

`onelife train [PRESET] [--key value ...]` starts from a preset (default: `{DEFAULT}`) and changes any of the settings
below. Switches take `True` or `False`, lists take any number of values. Wrong values and contradictory settings give
one line on stderr and exit code 2 before anything starts. The defaults listed are the tree's; the second part lists
where each preset differs. The run directory keeps the whole tree in `config.json`.
"""


def markdown() -> str:
    """The whole page."""
    default = ExperimentConfig()
    texts = help_texts(default)
    parts, group = [_HEAD, "## Settings"], None
    for setting in leaves(default):
        owner = setting.path.rpartition(".")[0]
        if owner != group:
            group = owner
            parts.append(f"### {owner or 'the run'}\n\n| setting | default | allowed | what it is |\n|---|---|---|---|")
        cells = (f"`{setting.flag}`", f"`{text_of(setting.value)}`", allowed(setting), texts[setting.path])
        parts[-1] += "\n| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    parts.append("## Presets")
    for name, make in PRESETS.items():
        base = {setting.path: setting.value for setting in leaves(default)}
        changed = [setting for setting in leaves(make()) if setting.value != base[setting.path]]
        listed = " ".join(f"{setting.flag} {text_of(setting.value)}" for setting in changed)
        parts.append(f"**{name}**: {summary(name)}\n" + (f"`{listed}`" if listed else "These are the tree's defaults."))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def text_of(value: Any) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return '""' if value == "" else str(value)


def allowed(setting: Setting) -> str:
    """What a setting may be, in words."""
    if setting.path == "agent":
        return ", ".join(agent_names())
    if choices(item_type(setting.type)):
        return ("any of " if is_tuple(setting.type) else "") + ", ".join(choices(item_type(setting.type)))
    kind = {str: "text", int: "integer", float: "number"}.get(setting.type, "integers")
    bound = RANGES.get(setting.path)
    if bound is None:
        return kind
    return f"{kind}{', each' if is_tuple(setting.type) else ''} {bound}"


if __name__ == "__main__":
    PATH.write_text(markdown())
