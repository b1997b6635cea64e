"""The learner: one batch in, one inner update out; at each window's end one step of η."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from agents.types import Agent, Array, MetaParams, Trajectory
from learner.checkpoint import rebuild
from learner.config import BY_COPIES, BootstrapConfig, InnerOptimizerConfig, MetaGradientConfig, MetaOptimizerConfig
from learner.inner_update import InnerState, InnerUpdate, nonfinite_leaves, select
from learner.mesh import Mesh, NoMesh
from learner.meta_gradients.base import Estimate, norms_by_name, penalised
from learner.meta_gradients.linearization import Forward
from learner.meta_gradients.reverse import Place, ReverseMetaGradient, last_entry
from learner.meta_gradients.trace import TraceMetaGradient
from learner.optimizers import make_inner_optimizer, make_meta_optimizer
from learner.state import LearnerState, MetaState, Skipped
from learner.window import RunningMean, TapeEntry, make_correction, outer_weights


class Learner:
    """Owns the jitted pieces; all state is in `LearnerState`."""

    def __init__(
        self,
        agent: Agent,
        *,
        window: int,
        correction: float,
        correction_discount: float,
        lags: tuple[int, ...],
        total_updates: float,
        unroll: int,
        streams: int,
        optimizer: InnerOptimizerConfig,
        meta_optimizer: MetaOptimizerConfig,
        meta_gradient: MetaGradientConfig,
        bootstrap: BootstrapConfig,
        mesh: Mesh | NoMesh,
        keep: bool = False,
        share: Callable[[MetaParams], MetaParams] = lambda gradient: gradient,
        record_gradient: bool = False,
    ):
        """A learner for one life.

        Args:
          lags: what policy lags can be.
          unroll, streams: T and B of every batch.
          total_updates: inner updates in the whole life, for the learning rates.
          mesh: where its arrays lie.
          keep: whether the window's tape keeps residuals (see `meta_gradients.linearization`).
          share: what makes of each life's meta-gradient the one that all of them follow, where many lives that share η
            run in one graph (`jax.lax.pmean` over them).
          record_gradient: "meta_grad/vector" [d], the whole raw meta-gradient but for penalties on η, is among the
            metrics of a window's end; and "meta_grad/direct_vector", it without the sampling correction, where the two
            parts are told apart.
        """
        self.agent = agent
        bootstraps = meta_gradient.objective == "bootstrap"
        self._window = window + bootstrap.updates - 1 if bootstraps else window  # updates between two steps of η
        self._config = meta_gradient
        self._mesh = mesh
        self._share = share
        self._record_gradient = record_gradient
        self._streams = streams
        self._inner = InnerUpdate(agent, make_inner_optimizer(optimizer, total_updates))
        self._meta_optimizer = make_meta_optimizer(meta_optimizer, total_updates / self._window)
        self._self_tuned = bool(jax.tree.leaves(jax.eval_shape(agent.init_meta, jax.random.key(0))))
        self._weights = outer_weights(meta_gradient.objective, window)
        correction_ = make_correction(correction, correction_discount, meta_gradient, lags, unroll * streams)
        # The correction's returns are those of θ^k, where the batches can be of others.
        self._weighs_returns = bool(correction_.coefficient) and any(lags)
        self._trace = self._reverse = None
        if self._self_tuned and meta_gradient.differentiation == "trace":
            self._trace = TraceMetaGradient(self._inner, correction_, meta_gradient.trace_decay)
        elif self._self_tuned and meta_gradient.differentiation not in BY_COPIES:
            self._reverse = ReverseMetaGradient(
                self._inner, meta_gradient.objective, window, correction_, keep, bootstrap
            )
        self._born = jax.jit(self._born)
        self._arrive = jax.jit(self._arrive)
        self._inner_step = jax.jit(self._inner_step, static_argnames="place")
        self._meta_step = jax.jit(self._meta_step)
        self._penalised = jax.jit(partial(penalised, agent))
        self._meta_values = jax.jit(agent.meta_values)
        self._logits = jax.jit(lambda params, trajectory: agent.unroll(params, trajectory).logits)
        self._stream_return = jax.jit(agent.stream_return)
        self.leaf_names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(self._shapes())]

    def _shapes(self) -> Any:
        return jax.eval_shape(self.agent.init, jax.random.key(0))

    def init(self, key: Array, meta: MetaState | None = None) -> LearnerState:
        """A new life; with `meta`, one that goes on from an older one's η."""
        state = LearnerState(tape=(), inner_updates=0, meta_updates=0, **self._born(key, meta))
        return self._mesh.replicate(state)

    def _born(self, key: Array, meta: MetaState | None) -> dict[str, Any]:
        meta_params = meta.params if meta else self.agent.init_meta(jax.random.fold_in(key, 1))
        params = meta_params["params"] if self.agent.starts_from_meta else self.agent.init(key)
        inner = InnerState(params, self._inner.optimizer.init(params))
        zero = jnp.zeros((), jnp.int32)
        return {
            "inner": inner,
            "meta": meta or MetaState(meta_params, self._meta_optimizer.init(meta_params)),
            "trace": self._trace.init(meta_params, inner, self._streams) if self._trace else None,
            "baseline": RunningMean(jnp.zeros(()), jnp.zeros(())),
            "context": self.agent.init_context(),
            "skipped": Skipped(zero, zero, zero, zero),
        }

    def restore(self, plain: dict[str, Any]) -> LearnerState:
        """A state as `checkpoint.Checkpointer.restore` returns it, with its types, on the learner's devices.

        Raises CheckpointError where it is one of another config or version.
        """
        new = self.init(jax.random.key(0))
        state = rebuild(new._replace(tape=()), plain | {"tape": ()}, "learner")
        core_state = self.agent.initial_state(self._streams)
        tape = []
        for entry in plain["tape"]:
            given, where = entry["trajectory"], "learner/tape/trajectory"
            own = {
                name: rebuild(shape, given[name], f"{where}/{name}")
                for name, shape in (("core_state", core_state), ("context", new.context))
            }
            # Everything lies where it lay: nothing is compiled anew, and sums over streams keep their order.
            placed = {
                "state": rebuild(new.inner, entry["state"], "learner/tape/state"),
                "grads": rebuild(new.inner.params, entry["grads"], "learner/tape/grads"),
                "applied": entry["applied"],
                "baseline": entry["baseline"],
            }
            tape.append(
                TapeEntry(
                    kept=None,
                    **self._mesh.replicate(placed),
                    logits=self._mesh.shard_streams(entry["logits"], axis=1),
                    trajectory=self._mesh.shard(Trajectory(**entry["trajectory"] | own)),
                    count=jnp.asarray(entry["count"]),
                    stream_return=self._mesh.shard_streams(entry["stream_return"]),
                )
            )
        state = self._mesh.replicate(state)._replace(tape=tuple(tape))
        return state._replace(tape=tuple(self._with_kept(state, position) for position in range(len(tape))))

    def saved(self, state: LearnerState) -> LearnerState:
        """What a checkpoint holds of a state: what the tape keeps of linearisations is computed anew by `restore`."""
        return state._replace(tape=tuple(entry._replace(kept=None) for entry in state.tape))

    def _with_kept(self, state: LearnerState, position: int) -> TapeEntry:
        """A restored entry with what it had kept, by the programs that made it."""
        entry, before = state.tape[position], state.tape[:position]
        if not self._reverse or self._reverse.place(position) is Place.PLAIN:
            return entry
        at_entry = state._replace(inner=entry.state)
        return entry._replace(
            kept=self._update_inner(at_entry, entry.trajectory, entry.count, entry.baseline, before)[2]
        )

    def step(
        self,
        state: LearnerState,
        trajectory: Trajectory,
        estimate: Estimate | None = None,
        correction_scale: Array | float = 1.0,
    ) -> tuple[LearnerState, dict[str, Array]]:
        """Uses batch D^k: closes the window that it ends, if any, then updates θ with it.

        The window's last batch is the next one's first, so no experience is skipped or used twice for θ.

        Args:
          state: the life so far.
          trajectory: D^k.
          estimate: the window's meta-gradient, where it is told by copies of the life (see `evolution`): the learner
            itself sees no copies.
          correction_scale: times λ; an argument, so that lives with different λ can be one program.

        Returns the next state and this step's metrics (device scalars; nothing waits for them), among them
        `skipped/leaves`, a [number of leaves] bool vector of the inner gradient's non-finite leaves (see `leaf_names`).
        """
        trajectory = self._mesh.shard(trajectory)
        metrics: dict[str, Array] = {}
        stream_return, baseline, next_baseline, context = self._arrive(trajectory, state.baseline, state.context)
        trajectory = trajectory._replace(context=context)
        count = jnp.asarray(state.inner_updates, jnp.int32)
        forward = None
        if self._self_tuned and state.tape:
            seen = stream_return
            if self._weighs_returns and len(state.tape) == self._window:
                seen = self._stream_return(trajectory, self._logits(state.inner.params, trajectory))
            last = last_entry(trajectory, count, seen, baseline)
            state, metrics, forward = self._close(state, last, estimate, correction_scale)
        inner, (grads, logits, applied), kept, trace, skipped, logs = self._update_inner(
            state, trajectory, count, baseline, state.tape, forward
        )
        tape = state.tape
        if self._self_tuned:
            seen = self._stream_return(trajectory, logits) if self._weighs_returns else stream_return
            entry = TapeEntry(state.inner, grads, logits, trajectory, count, applied, seen, baseline, kept)
            tape = (*tape, entry)
        state = state._replace(
            inner=inner,
            tape=tape,
            trace=trace,
            baseline=next_baseline,
            context=context,
            skipped=skipped,
            inner_updates=state.inner_updates + 1,
        )
        return state, metrics | logs

    def _update_inner(
        self,
        state: LearnerState,
        trajectory: Trajectory,
        count: Array,
        baseline: Array,
        tape: tuple[TapeEntry, ...],
        forward: Forward | None = None,
    ) -> tuple:
        """`_inner_step` of the update that `tape` has not got yet, with what the reverse sweep wants of it."""
        place, anchor = Place.PLAIN, None
        if self._reverse:
            place, anchor = self._reverse.place(len(tape)), self._reverse.update_anchor(tape, trajectory)
            if place is Place.FIRST and forward is None:
                forward = self._reverse.forward(state.inner.params, trajectory)
        given = (state.meta.params, state.inner, state.trace, state.skipped, trajectory, count, baseline)
        return self._inner_step(*given, anchor, forward, place=place)

    def kept_bytes(self, trajectory: Trajectory) -> int:
        """What a window's tape holds of linearisations, in bytes; 0 where none are kept. `trajectory`: its shapes.

        Traces the programs that make them, which are not traced again when they are called.
        """
        if not self._reverse or not self._reverse.kept_updates:
            return 0

        def first_updates(key: Array, trajectory: Trajectory) -> list[Any]:
            state = LearnerState(tape=(), inner_updates=0, meta_updates=0, **self._born(key, None))
            count, baseline, kept = jnp.zeros((), jnp.int32), jnp.zeros(()), []
            for _ in range(min(self._reverse.kept_updates, 2)):
                _, made, of_update, *_ = self._update_inner(state, trajectory, count, baseline, state.tape)
                entry = TapeEntry(state.inner, *made[:2], trajectory, count, made[2], None, baseline, of_update)
                state = state._replace(tape=(*state.tape, entry))
                kept.append(of_update)
            return kept

        first, *later = (
            sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(kept))
            for kept in jax.eval_shape(first_updates, jax.random.key(0), trajectory)
        )
        return first + sum(later) * (self._reverse.kept_updates - 1)

    def _arrive(
        self, trajectory: Trajectory, baseline: RunningMean, context: Any
    ) -> tuple[Array, Array, RunningMean, Any]:
        """The batch's stream returns, the baseline of its score, the running mean with it, and the context with it."""
        stream_return = self.agent.stream_return(trajectory)
        after = baseline.update(stream_return.mean(), self._config.baseline_decay)
        own = baseline.value if self._config.baseline == "running_mean" else jnp.zeros_like(baseline.value)
        return stream_return, own, after, self.agent.next_context(context, trajectory)

    @property
    def span(self) -> int:
        """Inner updates between two steps of η."""
        return self._window

    @property
    def updates_are_alike(self) -> bool:
        """Whether no update inside a window looks at the window's tape, so that one program can do them all."""
        return not self._trace and not (self._reverse and self._reverse.place(0) is not Place.PLAIN)

    def _close(
        self, state: LearnerState, last: TapeEntry, estimate: Estimate | None, correction_scale: Array | float
    ) -> tuple[LearnerState, dict[str, Array], Forward | None]:
        """What batch D^k, k = length of the tape, is to the open window: its end, or one more of its boundaries.

        Also returns the network's forward pass on it, where the window's end had need of it and the update to come has.
        """
        position = len(state.tape)
        ends = position == self._window
        trace, forward = state.trace, None
        if self._trace:
            weight, diagnose = self._weights[position], self._diagnoses(state.meta_updates)
            logs = {}
            if weight:
                same = self._config.objective == "same"
                trace, logs = self._trace.gather(
                    trace,
                    state.tape,
                    state.inner.params,
                    state.tape[-1].trajectory if same else last.trajectory,
                    last.stream_return,
                    weight,
                    correction_scale,
                    by_stream=diagnose,
                )
            if not ends:
                return state._replace(trace=trace), {}, None
            estimate, trace = self._trace.estimate(trace, state.meta.params, by_stream=diagnose)
        elif ends and self._reverse:
            estimate, logs, forward = self._reverse(
                state.meta.params,
                state.tape,
                state.inner,
                last,
                self._diagnoses(state.meta_updates),
                correction_scale,
            )
        elif ends:
            if estimate is None:
                raise ValueError(
                    f"{self._config.differentiation}: the window's meta-gradient must be given to the learner"
                )
            logs = {}
        else:
            return state, {}, None
        unpenalised, direct = estimate.gradient, estimate.direct
        if self.agent.meta_penalty:
            given = (state.meta.params, state.inner.params, last.trajectory)
            estimate, logs["penalty"] = self._penalised(estimate, *given)
        meta, skipped, was_skipped, by_name = self._meta_step(state.meta, estimate.gradient, state.skipped)
        metrics = {f"meta_grad/{name}": value for name, value in estimate.diagnostics.items()}
        metrics |= {f"outer_loss/{name}": value for name, value in logs.items()}
        metrics["skipped/meta"] = was_skipped
        metrics |= {f"meta_grad/of_{name}": value for name, value in by_name.items()}
        if self._record_gradient:
            metrics["meta_grad/vector"] = ravel_pytree(unpenalised)[0]
            if direct is not None:
                metrics["meta_grad/direct_vector"] = ravel_pytree(direct)[0]
        state = state._replace(meta=meta, tape=(), trace=trace, skipped=skipped, meta_updates=state.meta_updates + 1)
        return state, metrics, forward

    def _diagnoses(self, meta_updates: int) -> bool:
        """Whether this window's parts (of the trace: its streams) are told apart; in the graph they are every time."""
        period = self._config.diagnostics
        return bool(period) and (isinstance(meta_updates, jax.core.Tracer) or int(meta_updates) % period == 0)

    def _inner_step(
        self,
        meta_params,
        inner: InnerState,
        trace,
        skipped: Skipped,
        trajectory,
        count,
        baseline,
        anchor,
        forward,
        *,
        place: Place,
    ):
        kept = None
        if self._trace:
            new, grads, (loss, output, logs), trace = self._trace.step(
                trace, meta_params, inner, trajectory, count, baseline
            )
        elif self._reverse:
            new, grads, (loss, output, logs), kept = self._reverse.inner_update(
                meta_params, inner, trajectory, count, place, anchor, forward
            )
        else:
            new, grads, (loss, output, logs) = self._inner(meta_params, inner, trajectory, count)
        bad = nonfinite_leaves(grads)
        applied = ~jnp.any(bad)
        skipped = skipped._replace(
            inner=skipped.inner + ~applied, inner_run=jnp.where(applied, 0, skipped.inner_run + 1)
        )
        metrics = {name if name.startswith("meta/") else f"loss/{name}": value for name, value in logs.items()}
        metrics |= {"loss/total": loss, "loss/grad_norm": optax.tree.norm(grads)}
        metrics["skipped/leaves"] = bad
        return select(applied, new, inner), (grads, output.logits, applied), kept, trace, skipped, metrics

    def _meta_step(
        self, meta: MetaState, gradient: MetaParams, skipped: Skipped
    ) -> tuple[MetaState, Skipped, Array, dict[str, Array]]:
        """One step of η, or none where the meta-gradient is not finite; whether it was skipped, and what to log."""
        by_name = norms_by_name(gradient)
        gradient = self._share(gradient)
        updates, opt_state = self._meta_optimizer.update(gradient, meta.opt_state, meta.params)
        finite = ~jnp.any(nonfinite_leaves(gradient))
        new = select(finite, MetaState(optax.apply_updates(meta.params, updates), opt_state), meta)
        skipped = skipped._replace(meta=skipped.meta + ~finite, meta_run=jnp.where(finite, 0, skipped.meta_run + 1))
        return new, skipped, ~finite, by_name

    def meta_values(self, state: LearnerState) -> Mapping[str, Array]:
        """η by name, in its own units."""
        return self._meta_values(state.meta.params)
