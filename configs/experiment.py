"""The experiment: every setting of a run in one frozen tree."""

import dataclasses
from typing import Literal

from actors.config import ActorPoolConfig, EnvironmentConfig, RayConfig
from agents.config import InnerLossConfig, MetaInitConfig, NetworkConfig, OuterLossConfig
from learner.config import CheckpointConfig, InnerOptimizerConfig, LogConfig, MetaGradientConfig, MetaOptimizerConfig


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    run_dir: str = ""
    """Where the run lives; empty makes runs/AGENT-GAME-SEED-TIME."""
    seed: int = 0
    """Every random number of the run derives from it."""
    frames: int = 200_000_000
    """Stop after this many emulator frames (4 an agent step on Atari, 1 elsewhere)."""
    game: str = "atari:pong"
    """atari:NAME or NAME (snake or camel case; every game EnvPool ships), catch, two_colors."""
    agent: Literal["impala", "mgrl", "stac"] = "stac"
    """impala (nothing self-tuned), mgrl (γ and λ), stac (γ, λ, α and the loss weights)."""
    runtime: Literal["collapsed", "ray"] = "collapsed"
    """collapsed: actors are threads of this process; ray: actors are Ray processes."""
    actors: int = 1
    """Number of actors; each acts its share of the streams."""
    streams: int = 32
    """Environment streams B, all actors together."""
    unroll: int = 20
    """Steps T of each stream in a batch."""
    window: int = 1
    """Inner updates K in a window, at whose end η moves once."""
    correction: float = 0.0
    """Sampling correction: coefficient λ ≥ 0."""
    correction_discount: float = 1.0
    """Sampling correction: discount α in (0, 1] per update between a batch's actions and a later return."""
    lag: Literal["0", "1", "free"] = "1"
    """Policy lag: 0 (actors wait for each update), 1 (act and learn overlap; reproducible), free (bounded)."""
    network: NetworkConfig = NetworkConfig()
    inner: InnerLossConfig = InnerLossConfig()
    outer: OuterLossConfig = OuterLossConfig()
    meta_init: MetaInitConfig = MetaInitConfig()
    optimizer: InnerOptimizerConfig = InnerOptimizerConfig()
    meta_optimizer: MetaOptimizerConfig = MetaOptimizerConfig()
    meta_gradient: MetaGradientConfig = MetaGradientConfig()
    environment: EnvironmentConfig = EnvironmentConfig()
    pool: ActorPoolConfig = ActorPoolConfig()
    ray: RayConfig = RayConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
