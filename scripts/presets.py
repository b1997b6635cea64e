"""`onelife presets`: the presets, one row each."""

from rich.console import Console
from rich.table import Table

from configs.presets import DEFAULT, PRESETS, summary
from scripts.parse import Parser

SELF_TUNED = {"impala": "nothing", "mgrl": "γ λ", "stac": "γ λ α g_p g_v g_e"}


def main(args: list[str]) -> int:
    """Prints the table and each preset's source. Returns the exit code."""
    parser = Parser(prog="onelife presets", description="Lists the presets of onelife train.")
    parser.parse_args(args)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("preset", "agent", "game", "self-tuned"):
        table.add_column(column, no_wrap=True)
    for column in ("window K", "correction λ"):
        table.add_column(column, justify="right")
    for name, make in PRESETS.items():
        config = make()
        window, correction = str(config.window), f"{config.correction:g}"
        table.add_row(name, config.agent, config.game, SELF_TUNED[config.agent], window, correction)
    console = Console(highlight=False)
    console.print(table)
    for name in PRESETS:
        console.print(f"\n[bold]{name}[/bold]{' (default)' if name == DEFAULT else ''}: {summary(name)}")
    return 0
