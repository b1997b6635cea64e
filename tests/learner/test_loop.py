"""The training loop with a real actor pool on Catch, and with pools that go wrong."""

import threading
import time

import jax
import numpy as np
import pytest

from actors.environments.make import environment_spec
from actors.pool import ActorFailure
from actors.thread_pool import ThreadPool
from agents.config import NetworkConfig
from configs.experiment import ExperimentConfig
from learner import loop
from learner.config import CheckpointConfig, InnerOptimizerConfig, LogConfig
from learner.loop import Diverged, Progress, TrainingStopped
from scripts.parts import make_actor_from, make_learner

CONFIG = ExperimentConfig(
    game="catch",
    streams=2,
    unroll=5,
    window=2,
    correction=0.1,
    lag="0",
    network=NetworkConfig(torso="mlp", hidden=()),
    optimizer=InnerOptimizerConfig(name="sgd", learning_rate=0.01, anneal=False),
)


@pytest.fixture(scope="module")
def learner():
    """Compiled once: it holds no state."""
    return make_learner(CONFIG, environment_spec(CONFIG.game, CONFIG.environment))


FRAMES_PER_STEP = 4  # unlike Catch's own 1, to tell the two counts apart


def make_pool(make_actor=None):
    return ThreadPool(make_actor or make_actor_from(CONFIG), 1, CONFIG.lag, CONFIG.pool, FRAMES_PER_STEP)


class Life:
    """A loop and what it wrote, said and saved."""

    def __init__(self, learner, *, pool=None, total_steps=60, log=None, checkpoint_seconds=300.0, get_seconds=60.0):
        self.lines, self.events, self.saved = [], [], []
        self.learner = learner
        self.pool = pool or make_pool()
        self.on_line, self.disk_works = lambda: None, True
        self.loop = loop.Loop(
            learner,
            self.pool,
            total_steps=total_steps,
            frames_per_step=FRAMES_PER_STEP,
            log=log or LogConfig(updates=2),
            checkpoint=CheckpointConfig(seconds=checkpoint_seconds),
            write=self._write,
            event=self.events.append,
            save=self._save,
            get_seconds=get_seconds,
        )

    def _write(self, line):
        self.lines.append(line)
        self.on_line()

    def _save(self, step, content, blocking):
        self.saved.append((step, content, blocking))
        return self.disk_works

    def run(self, progress=None):
        try:
            return self.loop.run(self.learner.init(jax.random.key(0)), progress or Progress())
        finally:
            self.pool.stop(10.0)


class Poisoned:
    """A real pool whose rewards turn to NaN after some batches."""

    def __init__(self, pool, after):
        self._pool, self._left = pool, after

    def get(self, timeout):
        trajectory = self._pool.get(timeout)
        self._left -= 1
        return trajectory if self._left >= 0 else trajectory._replace(reward=trajectory.reward + np.nan)

    def __getattr__(self, name):
        return getattr(self._pool, name)


def test_life_ends_at_its_last_step_and_each_line_says_all(learner):
    life = Life(learner)
    outcome = life.run(Progress(wall_seconds=100.0))
    assert outcome.finished and 60 <= outcome.progress.agent_steps < 60 + 10
    updates = outcome.state.inner_updates
    assert 6 <= updates <= 8 and outcome.state.meta_updates == (updates - 1) // 2
    assert [line["inner_updates"] for line in life.lines] == sorted({*range(2, updates, 2), updates})
    needed = (
        "inner_updates agent_steps env_frames wall_seconds steps_per_second episode_return_mean episodes policy_lag"
    )
    needed = {*needed.split(), "loss/policy", "loss/value", "loss/entropy", "loss/total", "loss/grad_norm"}
    needed |= {
        f"meta/{n}" for n in ("gamma", "trace_lambda", "alpha", "policy_weight", "value_weight", "entropy_weight")
    }
    needed |= {f"meta_grad/{n}" for n in ("norm", "direct_norm", "correction_norm", "cosine", "snr")}
    for line in life.lines:
        assert needed <= line.keys()
        assert line["env_frames"] == FRAMES_PER_STEP * line["agent_steps"] and line["wall_seconds"] > 100
        assert all(np.ndim(value) == 0 and not isinstance(value, jax.Array) for value in line.values())
    assert np.isnan(life.lines[0]["meta_grad/norm"])  # no window has ended yet
    assert all(np.isfinite(life.lines[-1][f"meta_grad/{name}"]) for name in ("norm", "cosine", "snr"))
    ((step, content, blocking),) = life.saved
    assert step == updates and blocking and content["progress"] == outcome.progress
    assert content["learner"].inner is outcome.state.inner and content["pool"] is not None


def test_a_window_without_a_signal_to_noise_ratio_does_not_hide_that_of_others(learner):
    class Blind:
        """The learner, which cannot tell it in its first window."""

        def step(self, state, trajectory):
            state, metrics = learner.step(state, trajectory)
            if "meta_grad/snr" in metrics and state.meta_updates == 1:
                metrics = metrics | {"meta_grad/snr": np.nan * metrics["meta_grad/snr"]}
            return state, metrics

        def __getattr__(self, name):
            return getattr(learner, name)

    life = Life(Blind(), log=LogConfig(updates=6))
    life.run()
    assert life.lines[0]["meta_updates"] > 1 and life.lines[0]["meta_grad/snr"] > 0


def test_request_to_stop_ends_the_life_and_saves_it(learner):
    life = Life(learner, total_steps=10**9, checkpoint_seconds=0.0)
    life.on_line = lambda: len(life.lines) == 2 and life.loop.request_stop()
    outcome = life.run()
    assert not outcome.finished and outcome.state.inner_updates == 4
    # Every update was a moment to save, with nothing waiting for it; the end waits.
    assert [(step, blocking) for step, _, blocking in life.saved] == [*((k, False) for k in (1, 2, 3, 4)), (4, True)]


def test_too_many_bad_updates_in_a_row_stop_the_life_at_its_last_good_state(learner):
    pool = Poisoned(make_pool(), after=3)
    life = Life(learner, pool=pool, total_steps=10**9, log=LogConfig(updates=1, max_nonfinite=4))
    with pytest.raises(Diverged, match=r"4 non-finite updates in a row .* smaller --optimizer.learning-rate$"):
        life.run()
    ((_, content, blocking),) = life.saved
    state = content["learner"]
    assert blocking and int(state.skipped.inner_run) == int(state.skipped.inner) >= 4
    leaves = jax.tree.leaves((state.inner, state.meta.params))
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves)
    # Three good batches: the third closed a window and moved η. The next window's end was a bad one.
    assert state.inner_updates == 3 + int(state.skipped.inner)
    first = learner.leaf_names[0]
    assert any(text.startswith("skipped an inner update") and first in text for text in life.events)
    assert any(text.startswith("skipped a step of η") and "gamma" in text for text in life.events)
    assert life.lines[-1]["skipped/inner"] >= 3


def test_too_many_bad_meta_gradients_in_a_row_stop_it_too(learner):
    class Blind:
        """The learner, whose meta-gradients were not finite for a while."""

        def step(self, state, trajectory):
            state, metrics = learner.step(state, trajectory)
            return state._replace(skipped=state.skipped._replace(meta_run=state.meta_updates)), metrics | {
                "skipped/meta": True,
                "meta_grad/of_gamma": np.nan,
            }

        def __getattr__(self, name):
            return getattr(learner, name)

    life = Life(Blind(), log=LogConfig(updates=1, max_nonfinite=2))
    with pytest.raises(Diverged, match=r"2 non-finite meta-gradients in a row .* or --window$"):
        life.run()


def test_a_last_state_that_cannot_be_read_does_not_hide_what_ended_the_life(learner):
    class Exhausted:
        def step(self, state, trajectory):
            raise MemoryError("the first mishap")

        def saved(self, state):
            raise RuntimeError("Array has been\ndeleted")

        def __getattr__(self, name):
            return getattr(learner, name)

    life = Life(Exhausted())
    with pytest.raises(MemoryError, match="the first mishap"):
        life.run()
    assert "the last state could not be saved: RuntimeError: Array has been deleted" in life.events


def test_a_few_bad_updates_do_not_stop_it(learner):
    class Once(Poisoned):
        def get(self, timeout):
            trajectory = super().get(timeout)
            self._left += 3 if self._left < 0 else 0
            return trajectory

    pool = Once(make_pool(), after=2)
    life = Life(learner, pool=pool, log=LogConfig(updates=2, max_nonfinite=2))
    outcome = life.run()
    assert outcome.finished and int(outcome.state.skipped.inner) >= 2
    assert sum(text.startswith("skipped an inner update") for text in life.events) == int(outcome.state.skipped.inner)


def test_actors_that_never_answer_end_the_life_within_the_deadline(learner, monkeypatch):
    monkeypatch.setattr(loop, "LAST_STATE_SECONDS", 0.3)
    release = threading.Event()

    def hang(actor, incarnation):
        release.wait(60)
        raise RuntimeError("released")

    life = Life(learner, pool=make_pool(hang), get_seconds=0.6)
    stop, life.pool.stop = life.pool.stop, lambda deadline: None
    started = time.monotonic()
    try:
        with pytest.raises(TrainingStopped, match="no batch came from the actors"):
            life.run()
        assert time.monotonic() - started < 10
    finally:
        release.set()
        stop(10.0)
    ((step, content, _),) = life.saved
    assert step == 0 and content["pool"]["actors"] == (None,)
    assert any("could not be saved" in text for text in life.events)


def test_actor_that_cannot_be_made_ends_the_life_with_its_reason(learner):
    def broken(actor, incarnation):
        raise ValueError("no such cartridge")

    life = Life(learner, pool=make_pool(broken))
    with pytest.raises(ActorFailure, match="no such cartridge"):
        life.run()
    assert len(life.saved) == 1


def test_life_that_cannot_be_saved_does_not_pass_for_finished(learner):
    life = Life(learner, total_steps=1)
    life.disk_works = False
    with pytest.raises(TrainingStopped, match="could not be saved"):
        life.run()


def test_what_ended_the_life_is_told_even_where_it_cannot_be_saved(learner):
    life = Life(learner, total_steps=10**9)
    life.disk_works = False

    def fail():
        raise TrainingStopped("the first mishap")

    life.on_line = fail
    with pytest.raises(TrainingStopped, match="the first mishap"):
        life.run()
    assert any("could not be saved" in text for text in life.events)
