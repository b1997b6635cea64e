"""The training loop: get a batch, update, publish, log, save. Takes any actor pool by its protocol."""

import math
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from agents.types import Array, Trajectory, VersionedParams, real_transitions
from learner.config import CheckpointConfig, LogConfig
from learner.learner import Learner
from learner.state import LearnerState

# Always in a log line, null where there is nothing to say yet.
DIAGNOSTICS = ("norm", "direct_norm", "correction_norm", "cosine", "snr")
LAST_STATE_SECONDS = 15.0  # for the actors' last states: whoever sent SIGTERM may not wait much longer
POLL_SECONDS = 0.5  # how long a request to stop can go unnoticed while waiting for a batch


class TrainingStopped(RuntimeError):
    """Training cannot go on; the state is safe. The message says why."""


class Diverged(TrainingStopped):
    """These parameters give gradients that are not finite: there is nothing to go on with."""


class Progress(NamedTuple):
    """Where a life stands, beside the learner's own counters."""

    agent_steps: int = 0
    wall_seconds: float = 0.0


class Outcome(NamedTuple):
    state: LearnerState
    progress: Progress
    finished: bool  # False if asked to stop before the end


class Loop:
    """One life from `state` to its end, or until `request_stop`.

    Args:
      learner: the learner.
      pool: an `ActorPool` (see actors/pool.py), not started.
      total_steps: agent steps at which the life ends.
      frames_per_step: emulator frames an agent step takes.
      write: takes each log line, a flat dict.
      event: takes each thing a user should know, one line.
      save: takes (inner updates, state, blocking), returns False where it failed; state is a dict of `learner`, `pool`
        and `progress`.
      get_seconds: deadline for a batch.
    """

    def __init__(
        self,
        learner: Learner,
        pool: Any,
        *,
        total_steps: int,
        frames_per_step: int,
        log: LogConfig,
        checkpoint: CheckpointConfig,
        write: Callable[[dict[str, Any]], None],
        event: Callable[[str], None],
        save: Callable[[int, dict[str, Any], bool], bool],
        get_seconds: float,
    ):
        self._learner = learner
        self._pool = pool
        self._total_steps = total_steps
        self._frames_per_step = frames_per_step
        self._log = log
        self._checkpoint = checkpoint
        self._write = write
        self._event = event
        self._save = save
        self._get_seconds = get_seconds
        self._stop = False

    def request_stop(self) -> None:
        """Ends the loop after the update under way; safe to call from a signal handler."""
        self._stop = True

    def run(self, state: LearnerState, progress: Progress) -> Outcome:
        """Runs the life and saves it at the end, whatever the end was."""
        started = last_save = time.monotonic()
        already = progress.wall_seconds
        since, at_line = [], progress  # the metrics since the last line, and where the life stood then
        self._pool.start(VersionedParams(state.inner_updates, state.inner.params))
        try:
            while progress.agent_steps < self._total_steps:
                trajectory = self._next_batch()
                if trajectory is None:
                    break
                state, metrics = self._learner.step(state, trajectory)
                self._pool.publish(VersionedParams(state.inner_updates, state.inner.params))
                if since:  # the update before: looking at this one would wait for the device
                    self._check_finite(since[-1], state)
                since.append(metrics)
                now = time.monotonic()
                steps = progress.agent_steps + int(np.count_nonzero(real_transitions(trajectory.step_type)))
                progress = Progress(steps, already + now - started)
                if state.inner_updates % self._log.updates == 0:
                    self._write_line(state, progress, since, at_line)
                    since, at_line = [], progress
                for text in self._pool.events():
                    self._event(text)
                if now - last_save > self._checkpoint.seconds:
                    self._save_all(state, progress, self._pool_state(state, self._get_seconds), last=False)
                    last_save = time.monotonic()
            if since:
                self._write_line(state, progress, since, at_line)
        finally:
            for text in self._pool.events():
                self._event(text)
            failure = sys.exc_info()[1]
            try:
                self._save_all(state, progress, self._pool_state(state, LAST_STATE_SECONDS), last=True)
            except Exception as unsaved:  # arrays of a device that has failed may not be readable
                if failure is None:
                    raise
                # What ended the life is the news.
                told = isinstance(unsaved, TrainingStopped)
                what = unsaved if told else f"the last state could not be saved: {type(unsaved).__name__}: {unsaved}"
                self._event(" ".join(str(what).split()))
        return Outcome(state, progress, finished=progress.agent_steps >= self._total_steps)

    def _next_batch(self) -> Trajectory | None:
        """The next batch, or None once asked to stop."""
        deadline = time.monotonic() + self._get_seconds
        while not self._stop:
            try:
                return self._pool.get(timeout=POLL_SECONDS)
            except TimeoutError:
                for text in self._pool.events():
                    self._event(text)
                if time.monotonic() > deadline:
                    raise TrainingStopped(f"no batch came from the actors within {self._get_seconds:.0f} s") from None
        return None

    def _check_finite(self, metrics: dict[str, Array], state: LearnerState) -> None:
        """Reports a skipped update by the names of its leaves, and stops after too many in a row."""
        bad = np.asarray(jax.block_until_ready(metrics["skipped/leaves"]))  # raises, where reading alone may hang
        skipped_meta = bool(np.asarray(metrics.get("skipped/meta", False)))
        if not bad.any() and not skipped_meta:
            return
        if bad.any():
            names = [name for name, flag in zip(self._learner.leaf_names, bad, strict=True) if flag]
            self._event(f"skipped an inner update: non-finite gradient in {_some(names)}")
        if skipped_meta:
            of = "meta_grad/of_"
            shares = {name.removeprefix(of): value for name, value in metrics.items() if name.startswith(of)}
            names = [name for name, value in shares.items() if not np.isfinite(np.linalg.norm(value))]
            self._event(f"skipped a step of η: non-finite meta-gradient in {_some(names)}")
        limit = f"in a row (--log.max-nonfinite {self._log.max_nonfinite}, noticed up to one later)"
        inner, meta = int(np.asarray(state.skipped.inner_run)), int(np.asarray(state.skipped.meta_run))
        if inner >= self._log.max_nonfinite:
            raise Diverged(
                f"{inner} non-finite updates {limit}: these parameters give non-finite gradients; start again with a"
                " smaller --optimizer.learning-rate"
            )
        if meta >= self._log.max_nonfinite:
            raise Diverged(
                f"{meta} non-finite meta-gradients {limit}; start again with a smaller --optimizer.learning-rate or"
                " --window"
            )

    def _write_line(
        self, state: LearnerState, progress: Progress, since: list[dict[str, Array]], at_line: Progress
    ) -> None:
        """One log line: counters now, and means over the updates (or windows) since the last one."""
        self._check_finite(since[-1], state)
        statistics = self._pool.statistics()
        updates, meta_values, skipped = jax.device_get([since, self._learner.meta_values(state), state.skipped])
        names = {name for update in updates for name in update if not name.startswith("skipped/")}
        means = {name: _mean(name, [u[name] for u in updates if name in u]) for name in sorted(names)}
        rate = (progress.agent_steps - at_line.agent_steps) / (progress.wall_seconds - at_line.wall_seconds)
        self._write(
            statistics
            | {
                "inner_updates": state.inner_updates,
                "meta_updates": state.meta_updates,
                "agent_steps": progress.agent_steps,
                "env_frames": progress.agent_steps * self._frames_per_step,
                "wall_seconds": round(progress.wall_seconds, 3),
                "steps_per_second": round(rate, 2),
                "skipped/inner": int(skipped.inner),
                "skipped/meta": int(skipped.meta),
            }
            | {f"meta/{name}": float(value) for name, value in meta_values.items()}
            | {f"meta_grad/{name}": math.nan for name in DIAGNOSTICS}
            | means
        )

    def _pool_state(self, state: LearnerState, seconds: float) -> dict[str, Any]:
        """The actors' state, or one that starts them anew where they cannot give it in time or it would not fit."""
        try:
            return self._pool.state(timeout=seconds)
        except Exception as error:  # whatever it is, the parameters must still be saved
            reason = f"{type(error).__name__}: {error}"
        self._event(f"the actors' states could not be saved ({reason}): a resumed run starts new episodes")
        return self._pool.lost_state(state.inner_updates)

    def _save_all(self, state: LearnerState, progress: Progress, pool: dict[str, Any], *, last: bool) -> None:
        saved = self._save(
            state.inner_updates, {"learner": self._learner.saved(state), "pool": pool, "progress": progress}, last
        )
        if last and not saved:
            raise TrainingStopped(f"the state at update {state.inner_updates} could not be saved; see events.log")


def _mean(name: str, values: list[np.ndarray]) -> float:
    """A diagnostic that is undefined in some of the windows is the mean over the others."""
    if name.removeprefix("meta_grad/") in DIAGNOSTICS:
        values = [value for value in values if not np.isnan(value)]
    return float(np.mean(values)) if values else math.nan


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
