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
    """EnvPool's threads in each actor; 0: collapsed, the cores shared among the actors; ray, ray.cpus_per_actor."""
    catch_runs: int = 1
    """catch: balls in an episode; the rewards of all of them come with the last one."""
    catch_switch_steps: int = 0
    """catch: agent steps of a stream after which left and right swap; 0 for never."""
    switch_steps: int = 100_000
    """two_colors: agent steps of a stream after which the two objects swap their rewards."""
    grid_size: int = 5
    """grid: cells along each side."""
    arms: int = 30
    """bandit: how many arms."""
    noise: float = 2.0
    """bandit: standard deviation of a pull's reward."""
    mdp_states: int = 20
    """tabular_mdp: how many states (Liu et al. 2022: 20)."""
    mdp_actions: int = 5
    """tabular_mdp: how many actions (Liu et al. 2022: 5)."""
    mdp_concentration: float = 0.001
    """tabular_mdp: concentration of the Dirichlet that transitions are drawn from; near 0 they are nearly certain."""
    mdp_horizon: int = 20
    """tabular_mdp: steps after which an episode is truncated; an unroll of one more holds one whole episode."""
    rounds: int = 100
    """prisoners_dilemma: rounds after which a game is truncated; an unroll of one more holds one whole game."""
    task: int = 0
    """grid, bandit, tabular_mdp: which of its tasks (what leads where, and what pays); every number is another one."""


@dataclasses.dataclass(frozen=True)
class ActorPoolConfig:
    max_lag: int = 4
    """Bound of the policy lag (inner updates) under --lag free."""
    start_seconds: float = 180.0
    """Deadline for an actor's first unroll; past it the actor is replaced."""
    hang_seconds: float = 120.0
    """Deadline for each later unroll; past it the actor is replaced."""
    max_failures: int = 20
    """Failed actors within one hour after which training stops, with its state saved."""


@dataclasses.dataclass(frozen=True)
class RayConfig:
    address: str = ""
    """Address of an existing Ray cluster ("auto" finds the one of this machine); empty starts a local one."""
    cpus_per_actor: float = 1.0
    """CPUs that Ray reserves for each actor process."""
