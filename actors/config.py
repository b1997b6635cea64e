"""Settings of the environments and of the two actor runtimes."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class EnvironmentConfig:
    protocol: Literal["sticky", "noop"] = "sticky"
    """Atari: sticky (Machado et al. 2018: repeat-action 0.25, full action set) or noop (up to 30 no-op starts)."""
    max_episode_frames: int = 108_000
    """Atari: emulator frames after which an episode is truncated (108,000 are 30 minutes)."""
    threads: int = 0
    """EnvPool threads per actor. 0: with collapsed, the cores divided among actors; with ray, ray.cpus_per_actor."""
    catch_runs: int = 1
    """catch: balls in an episode; all their rewards come with the last one."""
    catch_switch_steps: int = 0
    """catch: agent steps of a stream after which left and right swap; 0 for never."""
    switch_steps: int = 100_000
    """two_colors: agent steps of a stream after which the two objects swap their rewards."""
    grid_size: int = 5
    """grid: cells along each side."""
    arms: int = 30
    """bandit: number of arms."""
    noise: float = 2.0
    """bandit: standard deviation of a pull's reward."""
    mdp_states: int = 20
    """tabular_mdp: number of states (Liu et al. 2022: 20)."""
    mdp_actions: int = 5
    """tabular_mdp: number of actions (Liu et al. 2022: 5)."""
    mdp_concentration: float = 0.001
    """tabular_mdp: concentration of the Dirichlet that transitions are drawn from; near 0: nearly deterministic."""
    mdp_horizon: int = 20
    """tabular_mdp: steps after which an episode is truncated; an unroll one step longer holds one whole episode."""
    rounds: int = 100
    """prisoners_dilemma: rounds after which a game is truncated; an unroll one step longer holds one whole game."""
    task: int = 0
    """grid, bandit, tabular_mdp: index of the task (transitions and rewards); each index is a different task."""


@dataclasses.dataclass(frozen=True)
class ActorPoolConfig:
    max_lag: int = 4
    """Bound on the policy lag (inner updates) with --lag free."""
    start_seconds: float = 180.0
    """Deadline for an actor's first unroll, after which the actor is replaced."""
    hang_seconds: float = 120.0
    """Deadline for each later unroll, after which the actor is replaced."""
    max_failures: int = 20
    """Training stops, with its state saved, when more than this many actors fail within an hour."""


@dataclasses.dataclass(frozen=True)
class RayConfig:
    address: str = ""
    """Address of an existing Ray cluster ("auto" finds this machine's); empty starts a local one."""
    cpus_per_actor: float = 1.0
    """CPUs that Ray reserves for each actor process."""
