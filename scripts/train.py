"""`onelife train`: puts the parts together, and keeps the run's record."""

import dataclasses
import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from configs.experiment import ExperimentConfig, added_since, from_json, to_json
from configs.tree import ConfigError
from configs.validate import check_devices
from learner.config import BY_COPIES
from scripts.compile_cache import use_compile_cache
from scripts.parts import life_too_short, make_actor_from, make_fitting_learner
from scripts.progress import Progress
from scripts.run_dir import CHECKPOINTS, RunDirectory, new_directory, read_config

STOP_SECONDS = 20.0  # deadline for the actors' end
READ_SECONDS = 600.0  # deadline for the reading of a checkpoint
WIDE = 2_048  # units of a hidden layer whose parameters may be what memory does not suffice for


def train(config: ExperimentConfig) -> int:
    """A new life. Returns the exit code: 0 finished, 1 where training could not go on, 128 + N stopped by signal N."""
    if config.meta_gradient.differentiation in BY_COPIES:
        raise ConfigError(
            f"--meta-gradient.differentiation: {config.meta_gradient.differentiation} has copies of the agent act in"
            " the graph, which actors of `onelife train` do not; use reverse or trace (studies take it)"
        )
    return _run(config, resumed=False)


def resume(run_dir: str, overrides: dict[str, Any]) -> int:
    """Goes on with the run in `run_dir`, with some settings (`frames`) changed."""
    config = dataclasses.replace(from_json(read_config(run_dir)), run_dir=run_dir, **overrides)
    return _run(config, resumed=True)  # which keeps the overrides in config.json, for the next resumption


def _run(config: ExperimentConfig, resumed: bool) -> int:
    # Everything heavy is imported and started below here, once the settings are known to be right.
    if config.runtime == "ray":
        from actors.pool import ActorFailure

        if resumed and (problem := _problem_with_checkpoints(config.run_dir)):
            raise ConfigError(f"--resume {config.run_dir}: {problem}")
        try:
            make_pool = _ray_pool(config)  # before JAX's backend: Ray starts processes
        except ActorFailure as error:
            raise ConfigError(str(error)) from None
    else:
        make_pool = _thread_pool
    import jax

    from learner.checkpoint import Checkpointer

    use_compile_cache()
    check_devices(config, jax.local_device_count())
    devices = [str(device) for device in jax.local_devices()]
    if not config.run_dir:
        path = new_directory(config.agent, config.game, config.seed)
        config = dataclasses.replace(config, run_dir=str(path))
    opened = RunDirectory.resume(config.run_dir, devices) if resumed else None
    with opened or RunDirectory.create(config.run_dir, to_json(config), devices) as run:
        try:
            session = _Session(config, run, resumed)
            if resumed:
                _update_config(config, run, session.lived_frames())
            return session.run(make_pool)
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if not isinstance(error, MemoryError) and not _no_memory(error):
                raise
            reason = _told(error)[:200]
        said = f"out of memory ({reason}); {_less_memory(config, Checkpointer(run.checkpoints).latest_step())}"
        run.event(f"stopped: {said}")
        print(f"onelife: {said}", file=sys.stderr)
        return 1


def _update_config(config: ExperimentConfig, run: RunDirectory, lived_frames: int) -> None:
    """Keeps the settings that a run goes on with. Raises ConfigError where they end it before where it is."""
    before = read_config(run.path)
    if before.get("frames") != config.frames < lived_frames:
        raise ConfigError(
            f"--frames: {config.frames} is below the {lived_frames:,} frames that {config.run_dir} has lived; give"
            " more, or leave it out"
        )
    if added := added_since(before):
        run.event(added)
    run.write_config(to_json(config))


def _less_memory(config: ExperimentConfig, step: int | None) -> str:
    """What to do where memory did not suffice; `step`: the newest checkpoint."""
    less = f"--streams {config.streams}, --unroll {config.unroll}, --window {config.window}"
    if config.network.torso == "mlp" and max(config.network.hidden, default=0) >= WIDE:
        less += f", --network.hidden {' '.join(map(str, config.network.hidden))}"
    if config.meta_gradient.linearization != "rebuild":
        less += "; or use --meta-gradient.linearization rebuild"
    return f"start again with less of {less}" + (f"; the state of update {step} is kept" if step is not None else "")


def _told(error: Exception) -> str:
    """Its message as a part of a line."""
    return " ".join(str(error).split()).rstrip(".")


def _no_memory(error: Exception) -> bool:
    """Whether XLA, or an actor that XLA failed, had no memory left."""
    return any(word in str(error) for word in ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory"))


def _problem_with_checkpoints(run_dir: str) -> str:
    """Why there is no checkpoint to go on from, "" where there is one or the run has none yet.

    Found by a process of its own: reading starts JAX, and here Ray has to be started before that, but not in vain.
    """
    with multiprocessing.get_context("spawn").Pool(1) as reader:  # which its end kills
        try:
            return reader.apply_async(_read_checkpoint, (Path(run_dir) / CHECKPOINTS,)).get(timeout=READ_SECONDS)
        except multiprocessing.TimeoutError:
            return f"{Path(run_dir) / CHECKPOINTS} could not be read within {READ_SECONDS:g} s"


def _read_checkpoint(directory: Path) -> str:
    import jax

    from learner.checkpoint import Checkpointer, CheckpointError

    jax.config.update("jax_platforms", "cpu")
    try:
        Checkpointer(directory).restore()
    except CheckpointError as error:
        return str(error)
    return ""


class _Session:
    """One process's share of a run."""

    def __init__(self, config: ExperimentConfig, run: RunDirectory, resumed: bool):
        from actors.environments.make import environment_spec
        from learner.checkpoint import Checkpointer

        self._config = config
        self._directory = run
        self._spec = environment_spec(config.game, config.environment)
        self._learner, self._kept = make_fitting_learner(config, self._spec)
        self._checkpointer = Checkpointer(run.checkpoints, config.checkpoint.keep)
        self._restored = self._restore() if resumed else None

    def _restore(self) -> dict[str, Any]:
        """What the newest readable checkpoint holds, {} where the run has none yet: it starts again."""
        from learner.checkpoint import CheckpointError

        try:
            found = self._checkpointer.restore()
            if found is None:
                return {}
            _, plain = found
            return plain | {"learner": self._learner.restore(plain["learner"])}
        except (CheckpointError, KeyError, TypeError) as error:
            what = error if isinstance(error, CheckpointError) else f"checkpoint of another version: {error!r}"
            raise ConfigError(f"--resume {self._config.run_dir}: {what}") from None

    def lived_frames(self) -> int:
        """Emulator frames up to here."""
        return self._restored["progress"]["agent_steps"] * self._spec.frames_per_step if self._restored else 0

    def run(self, make_pool: Any) -> int:
        import jax

        from actors.pool import ActorFailure
        from learner import loop
        from learner.loggers import MetricsLogger

        config = self._config
        state = self._learner.init(jax.random.fold_in(jax.random.key(config.seed), 0))
        progress, pool_state = loop.Progress(), None
        if self._restored:
            state = self._restored["learner"]
            progress = loop.Progress(**self._restored["progress"])
            pool_state = self._restored["pool"]
        pool = make_pool(config, self._spec.frames_per_step)
        if pool_state is not None:
            try:
                pool.restore(pool_state)
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(f"--resume {config.run_dir}: checkpoint of another config: {error}") from None
        logger = MetricsLogger(
            self._directory.path, config.log.tensorboard, state.inner_updates if self._restored is not None else None
        )
        device = f"{len(jax.local_devices())} x {jax.default_backend()}".removeprefix("1 x ")
        title = f"{config.agent} on {config.game}, seed {config.seed}, {device}"
        with Progress(title, config.run_dir, config.frames) as display:

            def event(text: str) -> None:
                self._directory.event(text)
                display.event(text)

            def write(line: dict[str, Any]) -> None:
                logger.write(line)
                display.update(line)
                for text in (*logger.events(), *self._checkpointer.events()):
                    event(text)

            def save(step: int, content: dict[str, Any], blocking: bool) -> bool:
                saved = self._checkpointer.save(step, content, blocking)
                for text in self._checkpointer.events():
                    event(text)
                return saved

            for text in filter(None, (self._kept, *(() if self._restored else self._warnings()))):
                event(text)
            if self._restored is not None:
                begins = f"resumed at update {state.inner_updates}" if self._restored else "no checkpoint: begins anew"
                event(begins + (f"; the old log is kept as {logger.old_log}" if logger.old_log else ""))
            life = loop.Loop(
                self._learner,
                pool,
                total_steps=-(-config.frames // self._spec.frames_per_step),
                frames_per_step=self._spec.frames_per_step,
                log=config.log,
                checkpoint=config.checkpoint,
                write=write,
                event=event,
                save=save,
                # Time for a hung actor to be noticed and replaced, twice.
                get_seconds=2 * (config.pool.start_seconds + config.pool.hang_seconds),
            )
            failure = None
            signals = _stop_on_signals(life, event)
            with signals:
                try:
                    outcome = life.run(state, progress)
                except (loop.TrainingStopped, ActorFailure) as error:
                    failure = error
                    event(f"stopped: {error}")
                finally:
                    pool.stop(STOP_SECONDS)
                    self._checkpointer.close()
                    logger.close()
        return self._farewell(outcome if failure is None else None, failure, signals.number)

    def _warnings(self) -> Iterator[str]:
        """What may not be meant, of a new life."""
        yield life_too_short(self._config, self._spec, self._learner)
        network = self._config.network
        if network.torso == "mlp" and not network.hidden and not network.lstm:
            yield "--network.hidden has no value: policy and critic are linear"

    def _farewell(self, outcome: Any, failure: Exception | None, number: int) -> int:
        """The last words, on stderr, and the report if it is wanted. Returns the exit code."""
        where = self._config.run_dir
        if failure is not None:
            print(f"onelife: {_told(failure)}; {self._way_on(failure)}", file=sys.stderr)
            return 1
        updates = outcome.state.inner_updates
        # A life that a signal cut short is not a finished one to whoever waits for this process.
        code = 0 if outcome.finished else 128 + number
        print(
            f"onelife: finished, {updates} updates"
            if outcome.finished
            else f"onelife: saved at update {updates}; {self._way_on(None)}",
            file=sys.stderr,
        )
        if not self._config.log.report:
            print(f"onelife: see {where}; draw it with: onelife report {where}", file=sys.stderr)
            return code
        from scripts.report import write_report

        try:
            print(f"onelife: see {write_report(where)}", file=sys.stderr)
        except (ConfigError, OSError) as error:
            print(f"onelife: no report: {error}", file=sys.stderr)
        return code

    def _way_on(self, failure: Exception | None) -> str:
        """What the user can do after this end."""
        from learner.loop import Diverged

        step = self._checkpointer.latest_step()
        if failure is not None and _no_memory(failure):
            return _less_memory(self._config, step)
        if step is None:
            return "there is no checkpoint to go on from"
        if isinstance(failure, Diverged):
            return f"the state of update {step} is kept in {self._config.run_dir}"
        return f"continue with: onelife train --resume {self._config.run_dir}"


class _stop_on_signals:
    """The first Ctrl-C or SIGTERM ends the life after the update under way; a second Ctrl-C breaks that off."""

    def __init__(self, life: Any, event: Any):
        self._life, self._event = life, event
        self._previous: dict[int, Any] = {}
        self.number = 0  # of the signal that came

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._life.request_stop()
        self._restore()
        self._event(f"{signal.Signals(number).name}: stopping after this update and saving; once more breaks it off")


def _thread_pool(config: ExperimentConfig, frames_per_step: int) -> Any:
    from actors.thread_pool import ThreadPool

    return ThreadPool(make_actor_from(config), config.actors, config.lag, config.pool, frames_per_step)


def _ray_pool(config: ExperimentConfig) -> Any:
    from actors.ray_pool import JOIN_SECONDS, REACH_SECONDS, RayPool, connect

    if config.ray.address:
        seconds = f"up to {REACH_SECONDS + JOIN_SECONDS:g} s"
        print(f"onelife: joining Ray at {config.ray.address}, {seconds}", file=sys.stderr)
    connect(config.ray, config.actors)

    def make(config: ExperimentConfig, frames_per_step: int) -> Any:
        return RayPool(
            make_actor_from(config), config.actors, config.lag, config.pool, frames_per_step, ray_config=config.ray
        )

    return make
