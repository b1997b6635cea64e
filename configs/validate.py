"""What the settings may be: a range for every number, and the combinations that contradict themselves.

Nothing here needs an environment, a device or a heavy import, so that a mistake is told at once.
"""

from pathlib import Path
from typing import Any

import agents.make
from actors.environments.make import JAX_GAMES, MAX_STREAMS, normalise_game
from agents.make import agent_names, self_tuned_by
from agents.rules import load_rule
from configs.ranges import RANGES
from configs.tree import ConfigError, Setting, check_choice, check_type, flag, is_tuple, leaves
from learner.config import BY_COPIES

ONE_BY_ONE = ("trace", "finite_differences")  # differentiations whose cost grows with the number of meta-parameters
AGENTS = ("impala", "mgrl", "stac", "stacx", "lirpg", "lpg", "maml", "bandit")  # what others read is theirs to say
_AGENT_FILES = Path(agents.make.__file__).parent
IMAGE_TORSOS = ("nature", "impala_shallow", "impala_deep")


def canonical_game(name: Any) -> str:
    """Any spelling of a game -> "atari:pong", "catch", ... ConfigError with the nearest where unknown."""
    if not isinstance(name, str):
        raise ConfigError(f"--game: {name!r} is not text")
    try:
        return normalise_game(name)
    except ValueError as error:
        raise ConfigError(f"--game: {error}") from None


def validate(config: Any) -> None:
    """Types, ranges and contradictions of an `ExperimentConfig`. Raises ConfigError, one line, at the first mistake."""
    for setting in leaves(config):
        check_type(setting)
        _check_range(setting)
    _check_agent_name(config.agent)
    _check_environment(config)
    _check_streams(config)
    _check_agent(config)
    _check_losses(config)
    _check_self_tuned(config)
    _check_meta_gradient(config)
    _check_correction(config)


def check_devices(config: Any, num_devices: int) -> None:
    """The learner shards the streams over its devices: raises ConfigError where they do not divide."""
    if config.streams % num_devices:
        raise ConfigError(
            f"--streams: {config.streams} do not divide over the {num_devices} devices of the learner"
            f"; nearest: {nearest_multiples(config.streams, num_devices)}"
        )


def _check_range(setting: Setting) -> None:
    allowed = RANGES.get(setting.path)
    if allowed is None:
        return
    for value in setting.value if is_tuple(setting.type) else (setting.value,):
        allowed.check(setting.flag, value)


def _check_environment(config: Any) -> None:
    if config.game in JAX_GAMES and config.network.torso in IMAGE_TORSOS:
        raise ConfigError(
            f"--network.torso: {config.network.torso} needs images, which --game {config.game} does not have; use mlp"
        )
    if config.ray.address and config.runtime != "ray":
        raise ConfigError(
            f"--ray.address: {config.ray.address!r} has no effect with --runtime {config.runtime}; add --runtime ray"
        )


def _check_streams(config: Any) -> None:
    if config.streams % config.actors:
        raise ConfigError(
            f"--streams: {config.streams} do not divide over --actors {config.actors}"
            f"; nearest: {nearest_multiples(config.streams, config.actors)}"
        )
    if config.streams > config.actors * MAX_STREAMS:
        raise ConfigError(
            f"--streams: {config.streams} are more than {MAX_STREAMS} for each of --actors {config.actors}"
            f"; use at least {-(-config.streams // MAX_STREAMS)} actors"
        )
    for name, value, instead in (("score_returns", "others", "all"), ("baseline", "other_streams", "running_mean")):
        if getattr(config.meta_gradient, name) == value and config.streams < 2:
            raise ConfigError(
                f"{flag(f'meta_gradient.{name}')}: {value} needs --streams of at least 2, not {config.streams}"
                f"; use {instead}"
            )


def _check_meta_gradient(config: Any) -> None:
    meta = config.meta_gradient
    if meta.differentiation != "trace" and meta.trace_decay != 1:
        raise ConfigError(
            f"--meta-gradient.trace-decay: {meta.trace_decay:g} has no effect with --meta-gradient.differentiation"
            f" {meta.differentiation}; leave it at 1 or use trace"
        )
    _check_evolution(config)
    if meta.objective == "bootstrap":
        if meta.differentiation == "trace":
            raise ConfigError("--meta-gradient.objective: bootstrap needs --meta-gradient.differentiation reverse")
        if not any((config.bootstrap.match_policy, config.bootstrap.match_value, config.bootstrap.match_parameters)):
            raise ConfigError("--bootstrap.match-policy: 0 is not allowed where the other matching weights are 0, too")
    elif config.bootstrap != type(config.bootstrap)():
        default = {setting.path: setting.value for setting in leaves(type(config.bootstrap)(), "bootstrap.")}
        changed = next(s for s in leaves(config.bootstrap, "bootstrap.") if s.value != default[s.path])
        raise ConfigError(
            f"{changed.flag}: {changed.value} has no effect with --meta-gradient.objective {meta.objective}"
            "; use --meta-gradient.objective bootstrap"
        )


def _check_evolution(config: Any) -> None:
    """Differentiation by perturbed copies of the life, and its settings."""
    meta = config.meta_gradient
    kind, flag = meta.differentiation, "--meta-gradient.differentiation"
    default = type(meta)()
    for name, users in (("standard_deviation", BY_COPIES), ("pairs", ("es", "pes"))):
        value = getattr(meta, name)
        if kind not in users and value != getattr(default, name):
            raise ConfigError(
                f"--meta-gradient.{name.replace('_', '-')}: {value:g} has no effect with {flag} {kind}; leave it at"
                f" {getattr(default, name):g} or use {' or '.join(users)}"
            )
    if kind not in BY_COPIES:
        return
    if config.game not in JAX_GAMES or config.runtime == "ray":
        where = f"--runtime {config.runtime}" if config.game in JAX_GAMES else f"--game {config.game}"
        raise ConfigError(
            f"{flag}: {kind} has copies of the agent act in the graph, which {where} cannot; use reverse or trace"
        )
    if meta.objective not in ("next", "all"):
        raise ConfigError(
            f"--meta-gradient.objective: {meta.objective} is no return, which {flag} {kind} needs; use next or all"
        )
    if config.correction:
        raise ConfigError(
            f"--correction: {config.correction:g} has no effect with {flag} {kind}, whose copies meet their own data;"
            " use 0"
        )


def _check_agent_name(name: str) -> None:
    names = agent_names()
    if name not in names and name.isidentifier() and (_AGENT_FILES / f"{name}.py").exists():
        raise ConfigError(
            f"--agent: {name!r} is no agent: agents/{name}.py defines no agent(spec, settings), see docs/new_agent.md;"
            f" choose from {', '.join(names)}"
        )
    check_choice("--agent", name, names)


def _check_agent(config: Any) -> None:
    """What single agents ask for."""
    heads = config.inner.auxiliary_heads
    stacx = config.agent == "stacx"
    if (heads and config.agent in AGENTS and not stacx) or (not heads and stacx):
        other = "use 2, as STACX does" if stacx else "use 0, or --agent stacx"
        raise ConfigError(f"--inner.auxiliary-heads: {heads} does not fit --agent {config.agent}; {other}")
    if config.agent == "bandit" and (config.game != "bandit" or config.inner.surrogate not in ("plain", "dice")):
        raise ConfigError(
            "--agent: bandit is for --game bandit and --inner.surrogate plain or dice, not"
            f" {config.game} and {config.inner.surrogate}"
        )
    if config.agent == "lirpg" and not config.outer.separate_critic:
        raise ConfigError(
            "--outer.separate-critic: False is not allowed with --agent lirpg, whose inner critic learns the value of"
            " the intrinsic reward, too; use True"
        )
    if config.agent == "lirpg" and not (config.intrinsic.weight or config.intrinsic.reward_weight):
        raise ConfigError(
            "--intrinsic.reward-weight: 0 is not allowed with --intrinsic.weight 0: the inner loss would see no reward;"
            " use more"
        )
    if config.agent == "maml" and (config.lag != "0" or config.meta_gradient.differentiation != "reverse"):
        raise ConfigError(
            "--agent: maml, whose lives are one window, needs --lag 0 and --meta-gradient.differentiation reverse; not"
            f" {config.lag} and {config.meta_gradient.differentiation}"
        )
    if config.agent == "maml" and config.meta_gradient.objective not in ("next", "all"):
        raise ConfigError(
            f"--meta-gradient.objective: {config.meta_gradient.objective} does not score what --agent maml has adapted"
            " to; use next or all"
        )
    if config.agent in ("lirpg", "lpg") and config.meta_gradient.differentiation in ONE_BY_ONE:
        raise ConfigError(
            f"--meta-gradient.differentiation: {config.meta_gradient.differentiation} is not allowed with --agent"
            f" {config.agent}, whose η is a network: too many parameters; use reverse"
        )
    if config.lpg.rule:
        if config.agent != "lpg":
            raise ConfigError(f"--lpg.rule: {config.lpg.rule!r} has no effect with --agent {config.agent}; use lpg")
        try:
            load_rule(config.lpg.rule)
        except ValueError as error:
            raise ConfigError(f"--lpg.rule: {error}") from None


def self_tuned(config: Any) -> tuple[str, ...]:
    """Names of the inner loss's hyperparameters that the agent tunes itself."""
    return config.self_tuned.parameters or self_tuned_by(config.agent)


def _check_losses(config: Any) -> None:
    if config.inner.surrogate_decay != 1 and config.inner.surrogate not in ("loaded_dice", "lsf"):
        raise ConfigError(
            f"--inner.surrogate-decay: {config.inner.surrogate_decay:g} has no effect with --inner.surrogate"
            f" {config.inner.surrogate}; use --inner.surrogate loaded_dice or lsf"
        )
    if config.agent == "bandit" and config.lag != "0":
        raise ConfigError(f"--agent: bandit has no importance ratios, so it needs --lag 0, not {config.lag}")
    if config.inner.surrogate in ("dice", "lsf") and config.lag != "0":
        raise ConfigError(
            f"--inner.surrogate: {config.inner.surrogate} has no importance ratios, so it needs --lag 0, not"
            f" {config.lag}"
        )
    if config.outer.separate_critic and config.inner.value_weight == 0:
        raise ConfigError(
            "--inner.value-weight: 0 leaves the critic of --outer.separate-critic as it was born; use more"
        )


def _check_self_tuned(config: Any) -> None:
    """What is self-tuned, and how."""
    own = config.self_tuned
    if len(set(own.parameters)) < len(own.parameters):
        raise ConfigError(f"--self-tuned.parameters: {' '.join(own.parameters)} names one of them twice")
    if own.parameters and config.agent in ("impala", "lpg", "maml", "bandit"):
        raise ConfigError(
            f"--self-tuned.parameters: {' '.join(own.parameters)} have no effect with --agent {config.agent}, which"
            " tunes no hyperparameters; use --agent stac"
        )
    tuned = self_tuned(config)
    for weight in ("policy_weight", "value_weight", "entropy_weight"):
        if weight == "entropy_weight" and own.entropy_bound:
            continue
        if weight in tuned and getattr(config.outer, weight) == 0:
            flag = weight.replace("_", "-")
            raise ConfigError(f"--outer.{flag}: 0 bounds the agent's own {flag}, which would stay 0; use more")
    if own.form == "scalar":
        return
    if config.agent in ("impala", "lirpg", "lpg", "maml", "bandit") and not own.parameters:
        raise ConfigError(
            f"--self-tuned.form: {own.form} has no effect with --agent {config.agent} and no --self-tuned.parameters"
        )
    if config.meta_gradient.differentiation in ONE_BY_ONE:
        raise ConfigError(
            f"--self-tuned.form: {own.form} is a network, too many parameters for --meta-gradient.differentiation"
            f" {config.meta_gradient.differentiation}; use reverse"
        )


def _check_correction(config: Any) -> None:
    meta = config.meta_gradient
    if config.correction == 0:
        if config.correction_discount != 1:
            raise ConfigError(
                f"--correction-discount: {config.correction_discount:g} has no effect with --correction 0; leave it"
                " out, or give a correction"
            )
        return
    if config.lpg.rule:
        raise ConfigError(
            f"--correction: {config.correction:g} has no effect with --rule, which freezes the rule; use 0"
        )
    if config.agent == "impala":
        raise ConfigError(
            f"--correction: {config.correction:g} has no effect with --agent {config.agent}, which tunes nothing"
            "; use 0, or an agent that does, stac for one"
        )
    if meta.objective == "bootstrap":
        raise ConfigError(
            f"--correction: {config.correction:g} corrects for returns, which --meta-gradient.objective bootstrap"
            " does not score by; use 0, or another objective"
        )
    without_products = [("plain", 1), ("lsf", 0)]
    given = (config.inner.surrogate, config.inner.surrogate_decay)
    if given not in without_products and config.agent != "bandit":  # whose study shows what comes of both
        raise ConfigError(
            f"--correction: {config.correction:g} and --inner.surrogate {config.inner.surrogate} count the same effect"
            " twice; use --correction 0, or --inner.surrogate plain"
        )
    if config.outer.policy_weight == 0:
        raise ConfigError(
            f"--correction: {config.correction:g} has no effect with --outer.policy-weight 0: returns do not count"
            "; use 0, or a positive weight"
        )
    by_stream = ["--meta-gradient.score-returns all, not others"] if meta.score_returns != "all" else []
    centred = meta.baseline == "other_streams"
    if centred and by_stream:
        raise ConfigError(f"--meta-gradient.baseline: other_streams needs {by_stream[0]}")
    by_stream += [f"--meta-gradient.baseline running_mean or none, not {meta.baseline}"] if centred else []
    if meta.differentiation == "trace" and (config.lag != "0" or by_stream):
        wrong = ([f"--lag 0, not {config.lag}"] if config.lag != "0" else []) + by_stream
        raise ConfigError(
            f"--correction: {config.correction:g} with --meta-gradient.differentiation trace needs"
            f" {' and '.join(wrong)}"
        )
    # The score of the window's first parameters is a constant to η, and the last batch has no later return. At lag 1
    # batch j was acted by the parameters before the last update, so that the first two batches carry no score.
    needed = 1 if config.agent == "maml" else 3 if config.lag == "1" else 2
    if meta.differentiation == "reverse" and config.window < needed:
        raise ConfigError(
            f"--correction: {config.correction:g} has no effect with --window {config.window} at --lag {config.lag}"
            f"; use --window {needed} or more, or --correction 0"
        )


def nearest_multiples(value: int, divisor: int) -> str:
    """The multiples of `divisor` on both sides of `value`, in words."""
    low = value // divisor * divisor
    return f"{low} or {low + divisor}" if low else str(divisor)
