"""`onelife presets`: the presets, one row each."""

import importlib

from rich.console import Console
from rich.table import Table

from configs import validate
from configs.experiment import ExperimentConfig
from configs.presets import DEFAULT, PRESETS, summary
from configs.tree import ConfigError
from scripts.parse import Parser

_SYMBOLS = {
    "gamma": "γ",
    "trace_lambda": "λ",
    "alpha": "α",
    "policy_weight": "g_p",
    "value_weight": "g_v",
    "entropy_weight": "g_e",
}


def main(args: list[str]) -> int:
    """Prints the table and each preset's source. Returns the exit code."""
    parser = Parser("onelife presets", "Lists the presets of onelife train.")
    parser.parse_args(args)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("preset", "agent", "game", "self-tuned"):
        table.add_column(column, no_wrap=column != "self-tuned")  # the one that gives way
    for column in ("objective", "K", "corr. λ"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, make in PRESETS.items():
        try:
            config = make()
        except ConfigError as error:
            raise ConfigError(f"preset {name}: {error}") from None
        window, correction = str(config.window), f"{config.correction:g}"
        objective = config.meta_gradient.objective if config.agent != "impala" else "-"
        if objective == "bootstrap":
            objective += f", L = {config.bootstrap.updates}"
        table.add_row(name, config.agent, config.game, self_tuned(config), objective, window, correction)
    console = Console(highlight=False)
    console.print(table)
    console.print("\nλ and α among the self-tuned are V-trace's; corr. λ is the sampling correction's, --correction.")
    for name in PRESETS:
        console.print(f"\n[bold]{name}[/bold]{' (default)' if name == DEFAULT else ''}: {summary(name)}")
    return 0


def self_tuned(config: ExperimentConfig) -> str:
    """What η is, in symbols."""
    agent = importlib.import_module(f"agents.{config.agent}")
    names = validate.self_tuned(config)
    parts = [" ".join(_SYMBOLS.get(name, name) for name in names)] if names else []
    if parts and config.self_tuned.form != "scalar":
        parts[0] += f" ({config.self_tuned.form})"
    if config.inner.auxiliary_heads:
        parts[0] += f" x {1 + config.inner.auxiliary_heads}"
    return ", ".join([*parts, *filter(None, [getattr(agent, "ALSO_TUNED", "")])]) or "nothing"
