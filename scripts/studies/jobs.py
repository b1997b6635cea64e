"""Cells of a study side by side, in processes that have cores of their own."""

import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import connection
from pathlib import Path
from typing import Any

from scripts.compile_cache import compiled_for

_TELL_SECONDS = 0.5  # between two looks at what the processes tell


def load_study(name: str) -> Any:
    """The `Study` of that name."""
    return importlib.import_module(f"scripts.studies.{name}").STUDY


def side_by_side(
    name: str, scale: str, seeds: int, cells: Sequence[str], out: Path, jobs: int, tell: Callable[[str, float], None]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Names of cells and their rows, as they are done, by `jobs` processes. `tell` hears the part of all that is.

    Raises BrokenProcessPool where a process died. Whatever ends it, no process stays behind.
    """
    context = multiprocessing.get_context("spawn")
    told, places = context.SimpleQueue(), context.SimpleQueue()
    for index in range(jobs):
        places.put(index)
    pool = ProcessPoolExecutor(jobs, context, _begin, (told, places, jobs))
    parts = dict.fromkeys(cells, 0.0)
    try:
        running = {pool.submit(_run, name, scale, seeds, cell, out): cell for cell in cells}
        while running:
            done, _ = wait(running, _TELL_SECONDS, FIRST_COMPLETED)
            while not told.empty():
                cell, what, parts[cell] = told.get()
                tell(what, sum(parts.values()) / len(parts))
            for future in done:
                cell = running.pop(future)
                parts[cell] = 1.0
                yield cell, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()


_told: Any = None  # in a process of the pool: where its cells tell how far they are


def _begin(told: Any, places: Any, jobs: int) -> None:
    """Takes a share of the cores before JAX counts them; ends with the parent, which alone hears Ctrl-C."""
    global _told
    _told = told
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[places.get() % len(cores) :: jobs])


def _run(name: str, scale: str, seeds: int, cell: str, out: Path) -> list[dict[str, Any]]:
    study = load_study(name)
    (own,) = (found for found in study.cells(scale, seeds) if found.name == cell)
    with compiled_for(scale):
        return study.run(own, out, lambda what, part: _told.put((cell, what, part)))
