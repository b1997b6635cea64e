"""Everything that the learner carries from one batch to the next."""

from typing import Any, NamedTuple

from agents.types import Array, MetaParams
from learner.inner_update import InnerState
from learner.meta_gradients.trace import TraceState
from learner.window import RunningMean, TapeEntry


class MetaState(NamedTuple):
    """η and its optimiser."""

    params: MetaParams
    opt_state: Any


class Skipped(NamedTuple):
    """Counts of updates skipped for a non-finite gradient."""

    inner: Array  # in all
    inner_run: Array  # in a row, up to now
    meta: Array
    meta_run: Array


class LearnerState(NamedTuple):
    """Everything the learner needs to go on. `inner_updates` is also the version of `inner.params`."""

    inner: InnerState
    meta: MetaState
    tape: tuple[TapeEntry, ...]  # the open window, 0 to K entries
    trace: TraceState | None  # with differentiation "trace" only
    baseline: RunningMean  # of batch returns
    context: Any  # what the agent's rule knows of the life so far; () for most
    skipped: Skipped
    inner_updates: int  # an array inside the graph
    meta_updates: int
