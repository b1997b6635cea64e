"""`onelife bench memory`: what a window takes beyond its tape, by XLA's memory analysis of the learner's programs."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.extend.core import jaxpr_as_fun
from rich.console import Console
from rich.table import Table

from configs.ranges import COUNT
from configs.tree import check_choice
from configs.validate import IMAGE_TORSOS
from scripts.bench.chart import draw_bars
from scripts.bench.meta import NEXT, Case, Window
from scripts.bench.output import add_out, check_out, write
from scripts.parse import Parser


class Memory(NamedTuple):
    """Bytes on the device while a window closes."""

    program: str  # that with the most temporaries
    temporaries: int  # its scratch space and its results
    tape: int  # of one update: its θ, optimiser state, gradient, policy and batch
    state: int  # θ, η and their optimisers' states

    def total(self, window: int) -> int:
        return self.state + window * self.tape + self.temporaries


def programs(window: Window) -> Iterator[tuple[str, Any]]:
    """Names and compiled forms of the programs, each once, that the learner runs from one step of η to the next."""
    seen = set()
    for name, inner in _named(window.jaxpr()):
        key = (name, str(inner))
        if key not in seen:
            seen.add(key)
            shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in inner.in_avals]
            yield name, jax.jit(jaxpr_as_fun(inner)).lower(*shapes).compile()


def _named(closed: Any) -> Iterator[tuple[str, Any]]:
    """The outermost jitted functions; on the host the learner calls them one by one, where the graph has a loop."""
    for equation in closed.eqns:
        if "name" in equation.params and "jaxpr" in equation.params:
            yield equation.params["name"], equation.params["jaxpr"]
        elif equation.primitive.name == "scan":
            yield from _named(equation.params["jaxpr"])


def measure(case: Case, torso: str, streams: int) -> Memory:
    window = Window(case, torso, streams)
    most, name = 0, ""
    for program, compiled in programs(window):
        found = compiled.memory_analysis()
        size = found.temp_size_in_bytes + found.output_size_in_bytes
        if size > most:
            most, name = size, program
    state = window.state_shapes()
    return Memory(name, most, _bytes(state.tape[0]) if state.tape else 0, _bytes(state._replace(tape=())))


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype"))


def main(words: list[str]) -> int:
    """Compiles, runs nothing; prints a table, writes its figures as JSON. Returns the exit code."""
    parser = Parser("onelife bench memory", "memory of windows that rebuild their linearisations")
    parser.add_argument("--network", default="impala_shallow", help="torso (default impala_shallow)")
    parser.add_integer("--streams", COUNT, default=32, help="environment streams (default 32)")
    parser.add_integer("--windows", COUNT, nargs="+", default=[2, 20], metavar="K", help="(default 2 20)")
    add_out(parser, "bench_memory")
    given = parser.parse_args(words)
    check_out(given.out)
    check_choice("--network", given.network, IMAGE_TORSOS)
    cases = {0: Case("atari_impala", {})} | {
        window: Case("atari_stac", NEXT | {"window": window}) for window in given.windows
    }
    found = {window: measure(case, given.network, given.streams) for window, case in cases.items()}
    sizes = {window: memory._asdict() for window, memory in found.items()}
    write(given.out, {"network": given.network, "streams": given.streams, "memory": sizes})
    Console().print(_table(found))
    bars = {f"K={k}" if k else "plain update": [memory.temporaries / 1e9] for k, memory in found.items()}
    print(draw_bars(given.out, {"temporaries, GB": bars}))
    return 0


def _table(found: dict[int, Memory]) -> Table:
    table, plain, first = Table(box=None, pad_edge=False), found[0], list(found.values())[1]
    for column in ("window", "largest", "temporaries", "of plain", "of first K", "an entry", "all"):
        table.add_column(column, no_wrap=True)
    for window, memory in found.items():
        table.add_row(
            f"K={window}" if window else "plain update",
            memory.program.lstrip("_"),
            f"{memory.temporaries / 1e9:.3f} GB",
            f"{memory.temporaries / plain.temporaries:.2f}",
            f"{memory.temporaries / first.temporaries:.2f}" if window else "",
            f"{memory.tape / 1e6:.1f} MB",
            f"{memory.total(window) / 1e9:.2f} GB",
        )
    return table
