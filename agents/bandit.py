"""No DICE's bandit learner (Vuorio et al. 2021, Appendix B): η is two learning rates of REINFORCE, early and late.

θ is one logit an action, 0 at birth. An update is SGD of step 1 on -softplus(η_i) mean(r log π): i = early for the
first `bandit.early_updates` updates of the life, late after them. (The paper's text says softmax; its code has
softplus.) No baseline, no critic.
"""

import jax
import jax.numpy as jnp

from agents.config import AgentSettings
from agents.surrogates import box
from agents.types import Agent, EnvironmentSpec, NetworkOutput

SELF_TUNED = ()
ALSO_TUNED = "two learning rates"
LOG_POLICY = "log_policy"  # [A], the same at all times and in all streams


def agent(spec: EnvironmentSpec, settings: AgentSettings) -> Agent:
    """η: raw "early" and "late" rates; outer loss: the policy gradient of the mean reward."""
    config, dice = settings.bandit, settings.inner.surrogate != "plain"

    def output(params, shape):
        # One policy for all pulls: losses and the score read it, and not its copies, which cost a pass over all arms
        # for each pull.
        log_policy = jax.nn.log_softmax(params["logits"])
        logits = jnp.broadcast_to(log_policy, (*shape, spec.num_actions))
        return NetworkOutput(logits, jnp.zeros(shape, params["logits"].dtype), heads={LOG_POLICY: log_policy})

    def step(params, observation, step_type, core_state):
        del observation, step_type
        return output(params, (1,)), core_state

    def gained(output, trajectory, surrogate):
        """[B] mean over time of r times a surrogate of log π."""
        log_prob = output.heads[LOG_POLICY][trajectory.action]
        return jnp.mean(trajectory.reward.astype(log_prob.dtype) * surrogate(log_prob), axis=0)

    def inner_loss(meta, output, trajectory):
        # The context counts the life's batches, this one included.
        raw = jnp.where(trajectory.context <= config.early_updates, meta["early"], meta["late"])
        rate = jax.nn.softplus(raw)
        loss = -rate * gained(output, trajectory, box if dice else lambda x: x)
        return loss, {"entropy": _entropy(output), "rate": jnp.mean(rate)}

    def outer_loss(output, trajectory, anchor_logits):
        del anchor_logits
        return -gained(output, trajectory, lambda x: x), {"entropy": _entropy(output)}

    return Agent(
        init=lambda key: {"logits": jnp.zeros(spec.num_actions, jnp.float32)},
        initial_state=lambda batch_size: (),
        step=step,
        unroll=lambda params, trajectory: output(params, trajectory.step_type.shape),
        init_meta=lambda key: {name: jnp.asarray(getattr(config, name), float) for name in ("early", "late")},
        meta_values=lambda meta: {name: jax.nn.softplus(raw) for name, raw in meta.items()},
        inner_loss=inner_loss,
        outer_loss=outer_loss,
        uses_anchor=False,
        stream_score=lambda output, trajectory: jnp.sum(output.heads[LOG_POLICY][trajectory.action], axis=0),
        stream_return=lambda trajectory: jnp.mean(trajectory.reward, axis=0),
        init_context=lambda: jnp.zeros((), jnp.int32),
        next_context=lambda context, trajectory: context + 1,
    )


def _entropy(output: NetworkOutput) -> jax.Array:
    """Negative; of one pull: all pulls of a batch have one policy."""
    log_policy = output.heads[LOG_POLICY]
    return -jnp.sum(jnp.exp(log_policy) * log_policy)
