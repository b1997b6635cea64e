"""The experiment: every setting of a run in one frozen tree."""

import dataclasses
from typing import Any, Literal

from actors.config import ActorPoolConfig, EnvironmentConfig, RayConfig
from agents.config import (
    AgentSettings,
    BanditConfig,
    InnerLossConfig,
    IntrinsicConfig,
    LPGConfig,
    MetaInitConfig,
    NetworkConfig,
    OuterLossConfig,
    SelfTunedConfig,
)
from configs.tree import ConfigError, is_tuple, leaves
from configs.validate import canonical_game, validate
from learner.config import (
    BootstrapConfig,
    CheckpointConfig,
    InnerOptimizerConfig,
    LogConfig,
    MetaGradientConfig,
    MetaOptimizerConfig,
)

_NEEDED = {"agent", "game"}  # every version had them: what lacks them is no run's settings
_LISTED = 5  # of the settings that an older version did not have


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    run_dir: str = ""
    """Directory of the run; empty makes runs/AGENT-GAME-SEED-TIME."""
    seed: int = 0
    """Every random number of the run derives from it."""
    frames: int = 200_000_000
    """Stop after this many emulator frames (4 an agent step on Atari, 1 elsewhere)."""
    game: str = "atari:pong"
    """atari:NAME or NAME (snake or camel case; every game EnvPool ships), catch, two_colors, grid, bandit,
    tabular_mdp, prisoners_dilemma."""
    agent: str = "stac"
    """What is self-tuned, and with which losses: see docs/agents.md (maml and bandit are for studies)."""
    runtime: Literal["collapsed", "ray"] = "collapsed"
    """collapsed: actors are threads of this process; ray: actors are Ray processes."""
    actors: int = 1
    """Number of actors; each acts its share of the streams."""
    streams: int = 32
    """Number B of environment streams, all actors together."""
    unroll: int = 20
    """Steps T of each stream in a batch."""
    window: int = 1
    """Inner updates K in a window; η moves once at its end."""
    correction: float = 0.0
    """Sampling correction: coefficient λ ≥ 0."""
    correction_discount: float = 1.0
    """Sampling correction: discount α in (0, 1] for each update between a batch's actions and a later return."""
    lag: Literal["0", "1", "free"] = "1"
    """Policy lag: 0 (actors wait for each update), 1 (acting and learning overlap; reproducible), free (bounded)."""
    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    inner: InnerLossConfig = dataclasses.field(default_factory=InnerLossConfig)
    outer: OuterLossConfig = dataclasses.field(default_factory=OuterLossConfig)
    meta_init: MetaInitConfig = dataclasses.field(default_factory=MetaInitConfig)
    self_tuned: SelfTunedConfig = dataclasses.field(default_factory=SelfTunedConfig)
    intrinsic: IntrinsicConfig = dataclasses.field(default_factory=IntrinsicConfig)
    lpg: LPGConfig = dataclasses.field(default_factory=LPGConfig)
    bandit: BanditConfig = dataclasses.field(default_factory=BanditConfig)
    optimizer: InnerOptimizerConfig = dataclasses.field(default_factory=InnerOptimizerConfig)
    meta_optimizer: MetaOptimizerConfig = dataclasses.field(default_factory=MetaOptimizerConfig)
    meta_gradient: MetaGradientConfig = dataclasses.field(default_factory=MetaGradientConfig)
    bootstrap: BootstrapConfig = dataclasses.field(default_factory=BootstrapConfig)
    environment: EnvironmentConfig = dataclasses.field(default_factory=EnvironmentConfig)
    pool: ActorPoolConfig = dataclasses.field(default_factory=ActorPoolConfig)
    ray: RayConfig = dataclasses.field(default_factory=RayConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    log: LogConfig = dataclasses.field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "game", canonical_game(self.game))  # frozen from here on
        validate(self)


def agent_settings(config: ExperimentConfig) -> AgentSettings:
    """The groups of settings that make the agent."""
    return AgentSettings(**{field.name: getattr(config, field.name) for field in dataclasses.fields(AgentSettings)})


def to_json(config: ExperimentConfig) -> dict[str, Any]:
    """The settings as nested dicts that `json` writes; `from_json` gives exactly the same settings back."""
    return dataclasses.asdict(config)


def from_json(data: dict[str, Any]) -> ExperimentConfig:
    """Settings from `to_json`, read back with `json`; those that an older version did not have are the tree's defaults.

    Raises ConfigError, one line, where another version wrote something that is unknown here. See `added_since`.
    """
    return _from_json(ExperimentConfig, data, "")


def added_since(data: dict[str, Any]) -> str:
    """A line about the settings that `data`, of an older version, has not got; "" where it has all."""
    added = [
        f"{setting.path} = {setting.value}" for setting in leaves(ExperimentConfig()) if not _has(data, setting.path)
    ]
    if not added:
        return ""
    listed = ", ".join(added[:_LISTED]) + (f" and {len(added) - _LISTED} more" if len(added) > _LISTED else "")
    return f"settings of an older version of onelife; what it did not have is the default: {listed}"


def _has(data: Any, path: str) -> bool:
    name, _, rest = path.partition(".")
    return name in data and (not rest or _has(data[name], rest))


def _from_json(cls: type, data: Any, prefix: str) -> Any:
    fields = dataclasses.fields(cls)
    if not isinstance(data, dict):
        raise ConfigError(f"settings of another version of onelife: {prefix.rstrip('.') or 'they'} should be a group")
    needed = _NEEDED if cls is ExperimentConfig else set()
    for problem, keys in (
        ("unknown", data.keys() - {field.name for field in fields}),
        ("missing", needed - data.keys()),
    ):
        if keys:
            listed = ", ".join(prefix + str(key) for key in sorted(keys, key=str))
            raise ConfigError(f"settings of another version of onelife: {problem} {listed}")
    values = {}
    for field in fields:
        if field.name not in data:
            continue
        value = data[field.name]
        if dataclasses.is_dataclass(field.type):
            value = _from_json(field.type, value, f"{prefix}{field.name}.")
        elif is_tuple(field.type) and isinstance(value, list):
            value = tuple(value)
        values[field.name] = value
    return cls(**values)
