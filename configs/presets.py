"""Presets: whole experiments, each number with its source.

Marks after a source: (S) stated by the paper, with its table or section where that was read, or by a text about it;
(R) recalled of the paper, not checked against it; (C) read in released code; (O) our own choice. The tables of MGRL's,
STAC's and BMG's papers were not read: where these are the source, no table is named.
"""

import dataclasses
from collections.abc import Callable

from agents.config import (
    InnerLossConfig,
    IntrinsicConfig,
    LPGConfig,
    MetaInitConfig,
    NetworkConfig,
    OuterLossConfig,
    SelfTunedConfig,
)
from configs.experiment import ExperimentConfig
from configs.tree import check_choice
from learner.config import (
    BootstrapConfig,
    InnerOptimizerConfig,
    LogConfig,
    MetaGradientConfig,
    MetaOptimizerConfig,
)

DEFAULT = "atari_stac"

PRESETS: dict[str, Callable[[], ExperimentConfig]] = {}  # by name, in the order below


def _preset(make: Callable[[], ExperimentConfig]) -> Callable[[], ExperimentConfig]:
    """Makes a function without arguments a preset, by its name; its first docstring line says what it is."""
    PRESETS[make.__name__] = make
    return make


@_preset
def atari_impala() -> ExperimentConfig:
    """IMPALA, nothing self-tuned: the control arm. Source: Espeholt et al. 2018, Table G.1."""
    return ExperimentConfig(
        agent="impala",
        game="atari:pong",
        frames=200_000_000,  # (S: Section 5.3.2)
        unroll=20,  # (S: Table G.1)
        streams=32,  # batch size (S: Table G.1)
        lag="1",  # (O) acting overlaps learning, and stays reproducible
        # (O) what two CPU cores can train. IMPALA ran impala_deep on Atari, and a shallow network of three convolutions
        # (S: Section 5.3.2), which is nature; MGRL and STAC used impala_deep (R).
        network=NetworkConfig(torso="impala_shallow"),
        inner=InnerLossConfig(
            gamma=0.99,  # (S: Table G.1)
            trace_lambda=1.0,  # (S: Equation 1, which has no λ)
            alpha=1.0,  # plain V-trace (S: Equation 1)
            policy_weight=1.0,  # the unit of the others (S: Section 4.2)
            value_weight=0.5,  # baseline loss scaling (S: Table G.1)
            entropy_weight=0.01,  # (S: Table G.1)
            rho_clip=1.0,  # (S: Section 5.2.2)
            reward_clip=1.0,  # (S: Table G.1)
            reduction="sum",  # (S: caption of Table D.1)
        ),
        optimizer=InnerOptimizerConfig(
            name="rmsprop",  # without momentum (S: Table G.1)
            learning_rate=6e-4,  # (S: Table G.1)
            anneal=True,  # from beginning to end (S: Table G.1)
            decay=0.99,  # (C: scalable_agent)
            eps=0.01,  # (S: Table G.1)
            max_grad_norm=40.0,  # (S: Table G.1)
        ),
    )


@_preset
def atari_mgrl() -> ExperimentConfig:
    """MGRL: γ and λ tuned on the next batch. Source: Xu, van Hasselt and Silver 2018."""
    return dataclasses.replace(
        atari_impala(),
        agent="mgrl",
        window=1,  # dθ'/dη ≈ ∂f/∂η alone (S), μ = 0 (R): a window of one update
        # γ' 0.995, λ' 1 (R); the meta-objective is the policy-gradient term alone (S)
        outer=OuterLossConfig(
            gamma=0.995, trace_lambda=1.0, policy_weight=1.0, value_weight=0.0, entropy_weight=0.0, kl_weight=0.0
        ),
        meta_gradient=MetaGradientConfig(objective="next"),  # validated on the next sample τ' (S)
        # Meta step size 0.001 (R); Adam is (O), its β and ε are STAC's (O): MGRL's are not known
        meta_optimizer=MetaOptimizerConfig(name="adam", learning_rate=1e-3, b1=0.9, b2=0.999, eps=1e-4),
    )


@_preset
def atari_stac() -> ExperimentConfig:
    """STAC: γ, λ, α and the loss weights tuned. Source: Zahavy et al. 2020, and IMPALA's Table G.1."""
    return dataclasses.replace(
        atari_impala(),
        agent="stac",
        window=1,  # one inner step (S)
        # θ's optimiser is IMPALA's, ε 0.01 too, which its table states; for STAC 0.1 is recalled (R), and not taken.
        # γ' 0.995, λ' 1, g_v' 0.25, g_p' 1, g_e' 0.01, g_kl' 1 (S); raw initial values 4.6 are the tree's (S)
        outer=OuterLossConfig(
            gamma=0.995, trace_lambda=1.0, policy_weight=1.0, value_weight=0.25, entropy_weight=0.01, kl_weight=1.0
        ),
        meta_gradient=MetaGradientConfig(objective="same"),  # outer loss on the same batch (S)
        # Adam 1e-3, β 0.9 and 0.999, ε 1e-4 (R)
        meta_optimizer=MetaOptimizerConfig(name="adam", learning_rate=1e-3, b1=0.9, b2=0.999, eps=1e-4),
    )


@_preset
def atari_stacx() -> ExperimentConfig:
    """STACX: STAC with two auxiliary heads, each with its own parameters. Source: Zahavy et al. 2020."""
    stac = atari_stac()
    # Three heads in all, i = 1 ... 3 (S: Figure 2b), each with the same bounds and initial values (R).
    return dataclasses.replace(stac, agent="stacx", inner=dataclasses.replace(stac.inner, auxiliary_heads=2))


@_preset
def atari_bmg() -> ExperimentConfig:
    """BMG: STACX's parameters, tuned by matching a bootstrapped target. Source: Flennerhag et al. 2021, Atari."""
    stacx = atari_stacx()
    return dataclasses.replace(
        stacx,
        window=1,  # K = 1 (S)
        outer=dataclasses.replace(stacx.outer, kl_weight=0.0),  # (O) the matching loss holds the policy already
        meta_gradient=MetaGradientConfig(objective="bootstrap"),
        bootstrap=BootstrapConfig(updates=4, match_policy=1.0),  # L up to 4, KL matching (S)
    )


@_preset
def atari_lirpg() -> ExperimentConfig:
    """LIRPG: a learned intrinsic reward added to the game's. Source: Zheng, Oh and Singh 2018, and their code."""
    return dataclasses.replace(
        atari_impala(),
        agent="lirpg",
        streams=16,  # (C)
        unroll=5,  # (C)
        lag="1",  # (O) atari_impala's; their A2C is on-policy (C)
        # A2C's numbers (C): γ 0.99, value 0.5, entropy 0.01; means over the batch.
        inner=InnerLossConfig(gamma=0.99, value_weight=0.5, entropy_weight=0.01, reduction="mean"),
        # Policy gradient of the game's reward, its own critic at 0.1 (C); no entropy bonus, no KL (C)
        outer=OuterLossConfig(gamma=0.99, value_weight=0.1, entropy_weight=0.0, kl_weight=0.0, separate_critic=True),
        intrinsic=IntrinsicConfig(weight=0.01),  # the code's (C); the paper chose one for each game (S)
        meta_gradient=MetaGradientConfig(objective="same"),  # the same batch (C)
        # RMSProp 7e-4, linearly to 0, decay 0.99, ε 1e-5, clip 0.5 (C)
        optimizer=InnerOptimizerConfig(name="rmsprop", learning_rate=7e-4, decay=0.99, eps=1e-5, max_grad_norm=0.5),
        # The same, clip and annealing too (C)
        meta_optimizer=MetaOptimizerConfig(
            name="rmsprop", learning_rate=7e-4, anneal=True, decay=0.99, eps=1e-5, max_grad_norm=0.5
        ),
    )


@_preset
def smoke() -> ExperimentConfig:
    """STAC on Catch within half a minute on two cores: a first look. Source: our own numbers, STAC's outer loss."""
    return dataclasses.replace(
        atari_stac(),
        game="catch",
        frames=500_000,  # (O) half a minute
        window=4,  # (O)
        correction=0.01,  # (O)
        network=NetworkConfig(torso="mlp", hidden=(64, 64)),  # (O)
        # (O) the clip is IMPALA's
        optimizer=InnerOptimizerConfig(name="adam", learning_rate=1e-3, anneal=False, eps=1e-8, max_grad_norm=40.0),
        log=LogConfig(updates=20),  # (O)
    )


@_preset
def two_colors_stac() -> ExperimentConfig:
    """STAC in one endless life whose rewards swap. Source: Luketina et al. 2022, Table 3, on Flennerhag et al. 2021."""
    return dataclasses.replace(
        atari_stac(),
        game="two_colors",
        frames=10_000_000,  # (S: Section 6.1)
        streams=1,  # a single stream (S: Section 4)
        unroll=16,  # rollouts of 16 (S: Table 3)
        window=7,  # (O) that of two_colors_bmg
        # Two layers of 256 (S: Table 3); they have two such networks (S: Section A.3), here policy and value share (O).
        network=NetworkConfig(torso="mlp", hidden=(256, 256)),
        inner=InnerLossConfig(reward_clip=0.0, reduction="mean"),  # (O) SGD at 0.1 asks for means
        outer=OuterLossConfig(gamma=0.99),  # (S: Table 3)
        # SGD, 0.1 (S: Table 3); the clip is IMPALA's (O)
        optimizer=InnerOptimizerConfig(name="sgd", learning_rate=0.1, anneal=False, max_grad_norm=40.0),
        # Adam, β and ε (S: Table 3); of its candidates 1e-3 to 1e-6 a replication's (C: Bootstrapped-Meta-Learning)
        meta_optimizer=MetaOptimizerConfig(name="adam", learning_rate=1e-4, b1=0.9, b2=0.999, eps=1e-4),
    )


@_preset
def two_colors_bmg() -> ExperimentConfig:
    """BMG where rewards swap: an entropy weight that depends on past rewards. Source: as two_colors_stac."""
    return dataclasses.replace(
        two_colors_stac(),
        window=7,  # K (C: Bootstrapped-Meta-Learning); Luketina et al. try 1, 3 and 6 (S: Table 3)
        self_tuned=SelfTunedConfig(
            parameters=("entropy_weight",),  # (S: Section A.3)
            form="history",  # a network with a sigmoid at its end (S: Table 3), of mean rewards as they are (O)
            history=10,  # of the last 10 rollouts (S: Table 3)
            hidden=(32,),  # (C: Bootstrapped-Meta-Learning); Luketina et al. have two layers of 64 (S: Table 3)
            entropy_bound=1.0,  # that of its sigmoid (S: Table 3)
        ),
        meta_init=MetaInitConfig(entropy_weight=-2.2),  # (O) starts at 0.1; theirs at 0.5 (S: Section A.3)
        # γ (S: Table 3); actor-critic on the environment's own reward (S: Equation 7), its value weight (O)
        inner=InnerLossConfig(gamma=0.99, value_weight=0.5, reward_clip=0.0, reduction="mean"),
        outer=OuterLossConfig(gamma=0.99, value_weight=0.5, entropy_weight=0.0, kl_weight=0.0),
        meta_gradient=MetaGradientConfig(objective="bootstrap"),
        # L (C: Bootstrapped-Meta-Learning), they try 8 and 16 (S: Table 3); KL matching (S: Equation 5)
        bootstrap=BootstrapConfig(updates=9, match_policy=1.0),
    )


@_preset
def catch_lpg() -> ExperimentConfig:
    """LPG: the update rule is learned, in one life on Catch. Source: Oh et al. 2020; Jackson et al. 2023, Table 2."""
    return dataclasses.replace(
        smoke(),
        agent="lpg",
        window=5,  # (S: Jackson et al., Table 2)
        unroll=20,  # (S: Jackson et al., Table 2)
        correction=0.0,  # none in the paper (R)
        # Paper: 30 predictions, LSTM 256 (R); Jackson et al.: 8 predictions, 256 (C: groove); (O) smaller, for CPUs
        lpg=LPGConfig(predictions=8, hidden=32, embedding=16),
        inner=InnerLossConfig(reduction="mean"),
        # γ and entropy (S: Jackson et al., Table 2); the others (O)
        outer=OuterLossConfig(gamma=0.99, value_weight=0.5, entropy_weight=0.05, kl_weight=0.0),
        meta_gradient=MetaGradientConfig(objective="next"),  # the validation rollout (S)
        # (O) smoke's numbers, with IMPALA's clip
        optimizer=InnerOptimizerConfig(name="adam", learning_rate=1e-3, anneal=False, eps=1e-8, max_grad_norm=40.0),
        # (O) Jackson et al. have 1e-4 over hundreds of lives (S: Table 2), and clip at 0.5 (C: groove)
        meta_optimizer=MetaOptimizerConfig(name="adam", learning_rate=1e-3, eps=1e-8, max_grad_norm=1.0),
    )


def preset(name: str) -> ExperimentConfig:
    """The experiment called `name`; ConfigError with the nearest name where there is none."""
    check_choice("preset", name, PRESETS)
    return PRESETS[name]()


def summary(name: str) -> str:
    """A preset in one line: what it is, and the source of its numbers."""
    return " ".join((PRESETS[name].__doc__ or "").split())
