"""Settings of the agent: its network, its losses, and what it tunes itself, how, and from where."""

import dataclasses
from typing import Literal, get_args

Hyperparameter = Literal["gamma", "trace_lambda", "alpha", "policy_weight", "value_weight", "entropy_weight"]
HYPERPARAMETERS: tuple[str, ...] = get_args(Hyperparameter)  # of the actor-critic loss


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    torso: Literal["mlp", "table", "nature", "impala_shallow", "impala_deep"] = "impala_shallow"
    """Torso: mlp; table (heads are lookup tables over one-hot observations, initialised to 0); nature (DQN's CNN);
    impala_shallow and impala_deep (IMPALA, Figure 3)."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the mlp torso's hidden layers; no effect on other torsos. May be empty (a linear agent)."""
    lstm: int = 0
    """Width of an LSTM core after the torso, reset at episode starts; 0 for none."""


@dataclasses.dataclass(frozen=True)
class InnerLossConfig:
    """The inner loss. The first six are fixed values; those that are self-tuned start from `--meta-init.*` instead."""

    gamma: float = 0.99
    """Discount, in [0, 1]."""
    trace_lambda: float = 1.0
    """λ of the V-trace targets, in [0, 1]."""
    alpha: float = 1.0
    """Leaky V-trace α in [0, 1]: 1 clips importance ratios (V-trace), 0 does not clip."""
    policy_weight: float = 1.0
    """Weight of the policy-gradient loss."""
    value_weight: float = 0.5
    """Weight of the value loss, 0.5 (target - V)²."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus."""
    rho_clip: float = 1.0
    """Clip ρ-bar of V-trace's importance ratios, in the outer loss too."""
    reward_clip: float = 1.0
    """Rewards are clipped to [-x, x] inside the losses; 0 leaves them as they are. Logged returns are never clipped."""
    reduction: Literal["sum", "mean"] = "sum"
    """Reduction of the inner, the outer and BMG's matching loss over a batch's T·B transitions (IMPALA: sum)."""
    surrogate: Literal["plain", "lvc", "loaded_dice", "dice", "off_policy", "off_policy_dice", "lsf"] = "plain"
    """Form of the policy-gradient loss, which determines its second derivatives (see docs/meta_gradients.md)."""
    surrogate_decay: float = 1.0
    """In [0, 1]. loaded_dice: decay of the dependence on the episode's earlier actions (0: lvc); lsf: weight of the
    products of scores (0: none)."""
    discount_states: bool = False
    """Weight policy gradients, inner and outer, by γ^t with t the time since the episode began: the true gradient of
    the discounted return, as dice always is."""
    auxiliary_heads: int = 0
    """Number of auxiliary policy and value heads, each with its own self-tuned parameters: stacx only (STACX: 2)."""


@dataclasses.dataclass(frozen=True)
class OuterLossConfig:
    """The outer loss, on which the window is scored (STAC: Zahavy et al. 2020)."""

    gamma: float = 0.995
    """Discount γ', in [0, 1]."""
    trace_lambda: float = 1.0
    """λ' of the V-trace targets, in [0, 1]."""
    policy_weight: float = 1.0
    """Weight g_p' of the policy-gradient loss."""
    value_weight: float = 0.25
    """Weight g_v' of the value loss."""
    entropy_weight: float = 0.01
    """Weight g_e' of the entropy bonus."""
    kl_weight: float = 1.0
    """Weight g_kl' of KL(new policy || policy at the window's start, gradient stopped)."""
    separate_critic: bool = False
    """Learn a second value head with the outer γ' and λ', for the outer loss alone (Bonnet et al. 2022)."""


@dataclasses.dataclass(frozen=True)
class MetaInitConfig:
    """Raw starting values of the self-tuned parameters: value = bound · sigmoid(raw), and sigmoid(4.6) = 0.99."""

    gamma: float = 4.6
    """Raw discount: γ starts at sigmoid(raw)."""
    trace_lambda: float = 4.6
    """Raw trace λ: it starts at sigmoid(raw)."""
    alpha: float = 4.6
    """Raw leaky V-trace α: it starts at sigmoid(raw)."""
    policy_weight: float = 4.6
    """Raw policy weight: it starts at outer.policy_weight · sigmoid(raw)."""
    value_weight: float = 4.6
    """Raw value weight: it starts at outer.value_weight · sigmoid(raw)."""
    entropy_weight: float = 4.6
    """Raw entropy weight: it starts at sigmoid(raw) times outer.entropy_weight, or self_tuned.entropy_bound if set."""


@dataclasses.dataclass(frozen=True)
class SelfTunedConfig:
    """Which hyperparameters of the inner loss are meta-parameters, and what each is a function of."""

    parameters: tuple[Hyperparameter, ...] = ()
    """Self-tuned hyperparameters; empty: the agent's own list."""
    form: Literal["scalar", "state", "history"] = "scalar"
    """scalar: one number each; state: a small network on the torso's features; history: one on past mean rewards."""
    hidden: tuple[int, ...] = (32,)
    """Widths of that network's hidden layers; no effect on scalars."""
    history: int = 10
    """Number of past batches whose mean rewards the form history reads (BMG on Two Colors: 10)."""
    entropy_bound: float = 0.0
    """Upper bound of a self-tuned entropy weight; 0: outer.entropy_weight, as in STAC."""


@dataclasses.dataclass(frozen=True)
class IntrinsicConfig:
    """The learned intrinsic reward (lirpg)."""

    weight: float = 0.01
    """Weight β of the intrinsic reward, itself in (-1, 1), added to the environment's (LIRPG's code: 0.01)."""
    reward_weight: float = 1.0
    """Weight of the environment's clipped reward in that sum, in the inner loss only (LIRPG's delayed rewards: 0)."""


@dataclasses.dataclass(frozen=True)
class LPGConfig:
    """The learned update rule (lpg)."""

    predictions: int = 30
    """Size of the categorical prediction y(s) (LPG: 30)."""
    hidden: int = 256
    """Width of the rule's backward LSTM (LPG: 256)."""
    embedding: int = 16
    """Hidden width of the embedding of predictions (LPG: 16)."""
    prediction_weight: float = 0.5
    """Weight α_y of the predictions' KL (LPG: 0.5)."""
    prediction_entropy: float = 1e-3
    """Outer loss: weight of the predictions' entropy bonus (LPG: 0.001)."""
    direction_penalty: float = 1e-3
    """Meta-objective penalty: weight of π̂² (LPG: 0.001, from memory, not checked against the paper; Jackson et al.
    2023: 0.005)."""
    target_penalty: float = 1e-3
    """Meta-objective penalty: weight of the squared target probabilities ŷ (LPG: 0.001)."""
    rule: str = ""
    """File of a learned rule (short: --rule), used frozen and with its own sizes; empty: learn one in this life."""


@dataclasses.dataclass(frozen=True)
class BanditConfig:
    """No DICE's bandit learner (agent bandit)."""

    early: float = 2.0
    """Raw learning rate of the first updates; the rate is its softplus (No DICE: 2)."""
    late: float = 2.0
    """Raw learning rate of the later updates; the rate is its softplus (No DICE: 2)."""
    early_updates: int = 8
    """Number of a life's updates that use the early rate (No DICE: 8 in the text, 7 in the code)."""


@dataclasses.dataclass(frozen=True)
class AgentSettings:
    """Everything that makes an agent of a name and an environment."""

    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    inner: InnerLossConfig = dataclasses.field(default_factory=InnerLossConfig)
    outer: OuterLossConfig = dataclasses.field(default_factory=OuterLossConfig)
    meta_init: MetaInitConfig = dataclasses.field(default_factory=MetaInitConfig)
    self_tuned: SelfTunedConfig = dataclasses.field(default_factory=SelfTunedConfig)
    intrinsic: IntrinsicConfig = dataclasses.field(default_factory=IntrinsicConfig)
    lpg: LPGConfig = dataclasses.field(default_factory=LPGConfig)
    bandit: BanditConfig = dataclasses.field(default_factory=BanditConfig)
