"""Presets: whole experiments, each number with its source.

Marks after a source: (S) stated by the paper or a text about it; (R) recalled of the paper, not checked against it;
(C) read in released code; (O) our own choice.
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
    """IMPALA, nothing self-tuned: the control arm. Source: Espeholt et al. 2018, Atari hyperparameters."""
    return ExperimentConfig(
        agent="impala",
        game="atari:pong",
        frames=200_000_000,  # 200M frames, the Atari protocol of all three papers (S)
        unroll=20,  # IMPALA's unroll (R)
        streams=32,  # IMPALA's batch (R)
        lag="1",  # (O) acting overlaps learning, and stays reproducible
        # (O) IMPALA's small network, which two CPU cores can train; MGRL and STAC used impala_deep (R).
        network=NetworkConfig(torso="impala_shallow"),
        inner=InnerLossConfig(
            gamma=0.99,  # (R)
            trace_lambda=1.0,  # plain V-trace (R)
            alpha=1.0,  # plain V-trace (R)
            policy_weight=1.0,  # the unit of the others (R)
            value_weight=0.5,  # (R)
            entropy_weight=0.01,  # (R)
            rho_clip=1.0,  # (R)
            reward_clip=1.0,  # Atari protocol: rewards in [-1, 1] for learning (C)
            reduction="sum",
        ),
        optimizer=InnerOptimizerConfig(
            name="rmsprop",
            learning_rate=6e-4,  # 6e-4, linearly to 0 (R)
            anneal=True,
            decay=0.99,  # (R)
            eps=0.01,  # as cleanba's IMPALA (C); IMPALA's Atari value is recalled as 0.01 or 0.1 (R)
            max_grad_norm=40.0,  # (R)
        ),
    )


@_preset
def atari_mgrl() -> ExperimentConfig:
    """MGRL: γ and λ tuned on the next batch. Source: Xu, van Hasselt and Silver 2018."""
    return dataclasses.replace(
        atari_impala(),
        agent="mgrl",
        window=1,  # trace decay μ = 0 (R) is a window of one update
        # γ' 0.995, λ' 1 (R); the meta-objective is the policy-gradient term alone (R)
        outer=OuterLossConfig(
            gamma=0.995, trace_lambda=1.0, policy_weight=1.0, value_weight=0.0, entropy_weight=0.0, kl_weight=0.0
        ),
        meta_gradient=MetaGradientConfig(objective="next"),  # validated on the next sample τ' (S)
        meta_optimizer=MetaOptimizerConfig(name="adam", learning_rate=1e-3),  # meta step size 0.001 (R)
    )


@_preset
def atari_stac() -> ExperimentConfig:
    """STAC: γ, λ, α and the loss weights tuned. Source: Zahavy et al. 2020, Table 1."""
    return dataclasses.replace(
        atari_impala(),
        agent="stac",
        window=1,  # one inner step (S)
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
    """STACX: STAC with two auxiliary heads, each with its own parameters. Source: Zahavy et al. 2020, Section 3.3."""
    stac = atari_stac()
    # Three heads in all (S), each with the same bounds and initial values (R).
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
    """LIRPG: a learned intrinsic reward beside the game's. Source: Zheng, Oh and Singh 2018, and their code."""
    return dataclasses.replace(
        atari_impala(),
        agent="lirpg",
        streams=16,  # (C)
        unroll=5,  # (C)
        # A2C's numbers (C): γ 0.99, value 0.5, entropy 0.01; means over the batch.
        inner=InnerLossConfig(gamma=0.99, value_weight=0.5, entropy_weight=0.01, reduction="mean"),
        # Policy gradient of the game's reward, its own critic at 0.1 (C); no entropy bonus, no KL (C)
        outer=OuterLossConfig(gamma=0.99, value_weight=0.1, entropy_weight=0.0, kl_weight=0.0, separate_critic=True),
        intrinsic=IntrinsicConfig(weight=0.01),  # (C)
        meta_gradient=MetaGradientConfig(objective="same"),  # the same batch (C)
        # RMSProp 7e-4, linearly to 0, decay 0.99, ε 1e-5, clip 0.5 (C)
        optimizer=InnerOptimizerConfig(name="rmsprop", learning_rate=7e-4, decay=0.99, eps=1e-5, max_grad_norm=0.5),
        meta_optimizer=MetaOptimizerConfig(name="rmsprop", learning_rate=7e-4, decay=0.99, eps=1e-5),  # (C)
    )


@_preset
def smoke() -> ExperimentConfig:
    """STAC on Catch in under two minutes on two cores: a first look. Source: our own numbers, STAC's outer loss."""
    return dataclasses.replace(
        atari_stac(),
        game="catch",
        frames=500_000,  # (O) two minutes
        window=4,  # (O)
        correction=0.01,  # (O)
        network=NetworkConfig(torso="mlp", hidden=(64, 64)),  # (O)
        optimizer=InnerOptimizerConfig(name="adam", learning_rate=1e-3, anneal=False, eps=1e-8),  # (O)
        log=LogConfig(updates=20),  # (O)
    )


@_preset
def two_colors_stac() -> ExperimentConfig:
    """STAC in one endless life whose rewards swap. Source: Flennerhag et al. 2021, Two Colors."""
    return dataclasses.replace(
        atari_stac(),
        game="two_colors",
        frames=10_000_000,  # 10 to 20M steps (S: Luketina et al. 2022)
        streams=1,  # a single stream (S)
        unroll=16,  # rollouts of 16 (S)
        window=7,  # (O) that of two_colors_bmg
        network=NetworkConfig(torso="mlp", hidden=(256, 256)),  # (S)
        inner=InnerLossConfig(reward_clip=0.0, reduction="mean"),  # (O) SGD at 0.1 asks for means
        outer=OuterLossConfig(gamma=0.99),  # γ 0.99 (S)
        optimizer=InnerOptimizerConfig(name="sgd", learning_rate=0.1, anneal=False),  # SGD 0.1 (S)
        meta_optimizer=MetaOptimizerConfig(name="adam", learning_rate=1e-4, eps=1e-4),  # 1e-4 (C), ε 1e-4 (S)
    )


@_preset
def two_colors_bmg() -> ExperimentConfig:
    """BMG where rewards swap: an entropy weight that depends on past rewards. Source: Flennerhag et al. 2021."""
    return dataclasses.replace(
        two_colors_stac(),
        window=7,  # K = 7 (C: a public replication)
        self_tuned=SelfTunedConfig(
            parameters=("entropy_weight",),  # (S)
            form="history",  # a network of the last 10 mean rewards, with a sigmoid at its end (S)
            history=10,  # (S)
            hidden=(32,),  # (C: the maze of Vuorio et al. 2022)
            entropy_bound=1.0,  # that of its sigmoid (S)
        ),
        meta_init=MetaInitConfig(entropy_weight=-2.2),  # (O) starts at 0.1
        # Actor-critic on the environment's own reward, γ 0.99 (S); weights (O)
        inner=InnerLossConfig(gamma=0.99, value_weight=0.5, reward_clip=0.0, reduction="mean"),
        outer=OuterLossConfig(gamma=0.99, value_weight=0.5, entropy_weight=0.0, kl_weight=0.0),
        meta_gradient=MetaGradientConfig(objective="bootstrap"),
        bootstrap=BootstrapConfig(updates=9, match_policy=1.0),  # L = 9 (C), KL matching (S)
    )


@_preset
def catch_lpg() -> ExperimentConfig:
    """LPG: the whole update rule is learned, here in one life on Catch. Source: Oh et al. 2020; sizes our own."""
    return dataclasses.replace(
        smoke(),
        agent="lpg",
        window=5,  # K = 5 (R)
        unroll=20,  # rollouts of 20 (R)
        correction=0.0,  # none in the paper (R)
        # Paper: 30 predictions, LSTM 256 (R); (O) smaller, for CPUs
        lpg=LPGConfig(predictions=8, hidden=32, embedding=16),
        inner=InnerLossConfig(reduction="mean"),
        # Entropy 0.05 (C); the others (O)
        outer=OuterLossConfig(gamma=0.99, value_weight=0.5, entropy_weight=0.05, kl_weight=0.0),
        meta_gradient=MetaGradientConfig(objective="next"),  # the validation rollout (S)
        meta_optimizer=MetaOptimizerConfig(name="adam", learning_rate=1e-3, eps=1e-8, max_grad_norm=1.0),  # (O)
    )


def preset(name: str) -> ExperimentConfig:
    """The experiment called `name`; ConfigError with the nearest name where there is none."""
    check_choice("preset", name, PRESETS)
    return PRESETS[name]()


def summary(name: str) -> str:
    """A preset in one line: what it is, and the source of its numbers."""
    return " ".join((PRESETS[name].__doc__ or "").split())
