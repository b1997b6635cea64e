"""Settings of the agent: its network, its losses, and what it tunes itself, how, and from where."""

import dataclasses
from typing import Literal, get_args

Hyperparameter = Literal["gamma", "trace_lambda", "alpha", "policy_weight", "value_weight", "entropy_weight"]
HYPERPARAMETERS: tuple[str, ...] = get_args(Hyperparameter)  # of the actor-critic loss


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    torso: Literal["mlp", "table", "nature", "impala_shallow", "impala_deep"] = "impala_shallow"
    """Torso: mlp; table (heads are tables of one-hot observations, 0 at birth); nature (DQN's CNN); impala_shallow and
    impala_deep (IMPALA, Figure 3)."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of the mlp torso; no effect on the others. May be empty (a linear agent)."""
    lstm: int = 0
    """Width of an LSTM core behind the torso, reset at episode starts; 0 for none."""


@dataclasses.dataclass(frozen=True)
class InnerLossConfig:
    """The inner loss. The first six are held fixed; what the agent tunes itself begins as `MetaInitConfig` says."""

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
    """Clip of V-trace's importance ratios, ρ-bar (of the outer loss too)."""
    reward_clip: float = 1.0
    """Rewards are clipped to [-x, x] inside the losses; 0 leaves them as they are. Logged returns are never clipped."""
    reduction: Literal["sum", "mean"] = "sum"
    """Over the batch's T·B transitions, for the inner, the outer and BMG's matching loss: IMPALA's losses are sums."""
    surrogate: Literal["plain", "lvc", "loaded_dice", "dice", "off_policy", "off_policy_dice", "lsf"] = "plain"
    """How the policy gradient is written down, which decides its second derivatives (see docs/meta_gradients.md)."""
    surrogate_decay: float = 1.0
    """In [0, 1]. loaded_dice: decay of the dependence on the episode's earlier actions, 0 is lvc; lsf: weight of the
    scores' products, 0 has none."""
    discount_states: bool = False
    """Weigh policy gradients, inner and outer, by γ^t since the episode began: the true gradient of the discounted
    return, as dice always is."""
    auxiliary_heads: int = 0
    """Auxiliary policy and value heads, each with self-tuned parameters of its own: stacx only (STACX has 2)."""


@dataclasses.dataclass(frozen=True)
class OuterLossConfig:
    """The outer loss: what the window is scored by (STAC: Zahavy et al. 2020)."""

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
    """Weight g_kl' of KL(new policy || policy at the window's start, stopped)."""
    separate_critic: bool = False
    """Learn a second value head with the outer γ' and λ', for the outer loss alone (Bonnet et al. 2022)."""


@dataclasses.dataclass(frozen=True)
class MetaInitConfig:
    """Raw starting values of the self-tuned parameters: value = bound · sigmoid(raw), and sigmoid(4.6) = 0.99."""

    gamma: float = 4.6
    """Raw discount: γ is born as 1 · sigmoid(raw)."""
    trace_lambda: float = 4.6
    """Raw λ: born as 1 · sigmoid(raw)."""
    alpha: float = 4.6
    """Raw leaky V-trace α: born as 1 · sigmoid(raw)."""
    policy_weight: float = 4.6
    """Raw policy weight: born as outer.policy_weight · sigmoid(raw)."""
    value_weight: float = 4.6
    """Raw value weight: born as outer.value_weight · sigmoid(raw)."""
    entropy_weight: float = 4.6
    """Raw entropy weight: born as outer.entropy_weight · sigmoid(raw)."""


@dataclasses.dataclass(frozen=True)
class SelfTunedConfig:
    """Which hyperparameters of the inner loss are meta-parameters, and what each is a function of."""

    parameters: tuple[Hyperparameter, ...] = ()
    """Self-tuned hyperparameters; none named: the agent's own list."""
    form: Literal["scalar", "state", "history"] = "scalar"
    """scalar: one number each; state: a small network of the torso's features; history: one of past mean rewards."""
    hidden: tuple[int, ...] = (32,)
    """Widths of that network's hidden layers; no effect on scalars."""
    history: int = 10
    """How many batches' mean rewards the form history reads (BMG on Two Colors: 10)."""
    entropy_bound: float = 0.0
    """Upper bound of a self-tuned entropy weight; 0: outer.entropy_weight, as in STAC."""


@dataclasses.dataclass(frozen=True)
class IntrinsicConfig:
    """The learned intrinsic reward (lirpg)."""

    weight: float = 0.01
    """Weight β of the intrinsic reward, which is in (-1, 1), beside the environment's (LIRPG's code: 0.01)."""
    reward_weight: float = 1.0
    """Weight of the environment's clipped reward beside it, in the inner loss alone (LIRPG's delayed rewards: 0)."""


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
    """Charged to the rule: weight of the squared direction π̂ (LPG: 0.001, recalled; Jackson et al. 2023: 0.005)."""
    target_penalty: float = 1e-3
    """Charged to the rule: weight of the squared target probabilities ŷ (LPG: 0.001)."""
    rule: str = ""
    """File of a learned rule (short: --rule), used as it is and of the sizes it has; empty: learn one in this life."""


@dataclasses.dataclass(frozen=True)
class BanditConfig:
    """No DICE's bandit learner (agent bandit)."""

    early: float = 2.0
    """Raw learning rate of the first updates; the rate is its softplus (No DICE: 2)."""
    late: float = 2.0
    """Raw learning rate of the others; the rate is its softplus (No DICE: 2)."""
    early_updates: int = 8
    """How many updates of a life the first rate is for (No DICE: 8 in the text, 7 in the code)."""


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
