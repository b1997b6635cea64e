"""What a lifetime has seen so far: episodes, steps, frames, reward, policy lag. No clock: a run repeats exactly."""

import collections
from typing import Any

import numpy as np

from agents.types import LAST, Provenance, Trajectory, real_transitions

EPISODES_IN_MEAN = 100


class LifetimeStatistics:
    """Fed with every delivered unroll, in order; follows the episodes of each stream across unrolls.

    An actor that was replaced comes back with fresh streams: their unfinished episodes are dropped.
    """

    def __init__(self, num_actors: int, frames_per_step: int):
        self._frames_per_step = frames_per_step
        self._incarnation = [0] * num_actors
        self._partial_return: list[np.ndarray | None] = [None] * num_actors  # float64 [B] of the actor
        self._partial_length: list[np.ndarray | None] = [None] * num_actors  # int64 [B]
        self._agent_steps = 0
        self._episodes = 0
        self._recent: collections.deque[tuple[float, int]] = collections.deque(maxlen=EPISODES_IN_MEAN)
        self._restarts = 0
        self._since_report = {"reward": 0.0, "steps": 0, "lag": 0, "unrolls": 0, "lag_max": 0}

    def update(self, trajectory: Trajectory, provenance: Provenance, lag: int) -> None:
        """Counts one unroll; `lag` in inner updates."""
        actor = provenance.actor_index
        returns, lengths = self._partial_return[actor], self._partial_length[actor]
        if returns is None or provenance.incarnation != self._incarnation[actor]:
            returns = np.zeros(trajectory.reward.shape[1], np.float64)
            lengths = np.zeros(trajectory.reward.shape[1], np.int64)
            self._incarnation[actor] = provenance.incarnation
        real = real_transitions(trajectory.step_type)
        reward = np.where(real, trajectory.reward, 0).astype(np.float64)
        for t in range(reward.shape[0]):
            returns = returns + reward[t]
            lengths = lengths + real[t]
            ends = real[t] & (trajectory.step_type[t + 1] == LAST)
            if ends.any():
                self._recent.extend(zip(returns[ends].tolist(), lengths[ends].tolist(), strict=True))
                self._episodes += int(ends.sum())
                returns, lengths = np.where(ends, 0, returns), np.where(ends, 0, lengths)
        self._partial_return[actor], self._partial_length[actor] = returns, lengths
        steps = int(real.sum())
        self._agent_steps += steps
        since = self._since_report
        since["reward"] += float(reward.sum())
        since["steps"] += steps
        since["lag"] += lag
        since["unrolls"] += 1
        since["lag_max"] = max(since["lag_max"], lag)

    def restarted(self) -> None:
        """Counts one replaced actor."""
        self._restarts += 1

    def report(self) -> dict[str, float]:
        """Of the whole lifetime: agent_steps (reset transitions left out), env_frames, episodes, actor_restarts.

        Of the last 100 finished episodes: episode_return_mean (raw rewards), episode_length_mean (agent steps). Since
        the last report: reward_per_step, policy_lag (mean), policy_lag_max (inner updates). NaN where there is none.
        """
        since = self._since_report
        returns, lengths = zip(*self._recent, strict=True) if self._recent else ((), ())
        report = {
            "agent_steps": self._agent_steps,
            "env_frames": self._agent_steps * self._frames_per_step,
            "episodes": self._episodes,
            "episode_return_mean": float(np.mean(returns)) if returns else float("nan"),
            "episode_length_mean": float(np.mean(lengths)) if lengths else float("nan"),
            "reward_per_step": since["reward"] / since["steps"] if since["steps"] else float("nan"),
            "policy_lag": since["lag"] / since["unrolls"] if since["unrolls"] else float("nan"),
            "policy_lag_max": since["lag_max"] if since["unrolls"] else float("nan"),
            "actor_restarts": self._restarts,
        }
        self._since_report = dict.fromkeys(since, 0)
        return report

    def get_state(self) -> dict[str, Any]:
        """Numbers, arrays and tuples, for `set_state`."""
        return {
            "incarnation": tuple(self._incarnation),
            "partial_return": tuple(self._partial_return),
            "partial_length": tuple(self._partial_length),
            "agent_steps": self._agent_steps,
            "episodes": self._episodes,
            "recent_returns": np.asarray([episode[0] for episode in self._recent], np.float64),
            "recent_lengths": np.asarray([episode[1] for episode in self._recent], np.int64),
            "restarts": self._restarts,
            "since_report": dict(self._since_report),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self._incarnation = [int(incarnation) for incarnation in state["incarnation"]]
        self._partial_return = list(state["partial_return"])
        self._partial_length = list(state["partial_length"])
        self._agent_steps = int(state["agent_steps"])
        self._episodes = int(state["episodes"])
        recent = zip(state["recent_returns"].tolist(), state["recent_lengths"].tolist(), strict=True)
        self._recent = collections.deque(recent, maxlen=EPISODES_IN_MEAN)
        self._restarts = int(state["restarts"])
        self._since_report = dict(state["since_report"])
