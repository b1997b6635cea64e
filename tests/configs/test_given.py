"""What is given and read by nothing, through the command line."""

import jax
import pytest

from agents.config import HYPERPARAMETERS
from agents.make import agent_names
from agents.networks_meta import rule_network
from agents.rules import save_rule
from configs.given import ROWS
from configs.presets import preset
from configs.tree import ConfigError, flag, override
from configs.validate import AGENTS
from scripts.parse import parse_train, parse_words


@pytest.fixture(scope="module")
def rule(tmp_path_factory):
    """A rule's file."""
    path = tmp_path_factory.mktemp("rules") / "rule.npz"
    save_rule(path, rule_network(4, predictions=3, hidden=4, embedding=2).init(jax.random.key(0)))
    return str(path)


def refused(*words):
    with pytest.raises(ConfigError) as told:
        parse_train(list(words))
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize(
    "preset, refused, taken",
    [
        ("atari_stac", "--inner.value-weight 0.3", "--inner.rho-clip 2"),
        ("atari_mgrl", "--inner.trace-lambda 0.9", "--inner.value-weight 0.3"),
        ("atari_impala", "", "--inner.gamma 0.9"),
        (
            "atari_stac",
            "--inner.gamma 0.9 --self-tuned.parameters gamma",
            "--inner.alpha 0.5 --self-tuned.parameters gamma",
        ),
    ],
)
def test_a_fixed_value_of_what_is_tuned_is_refused(preset, refused, taken):
    assert parse_train([preset, *taken.split()])
    if refused:
        with pytest.raises(ConfigError, match=r"--inner\.\S+: 0\.\d has no effect .* starts from --meta-init\."):
            parse_train([preset, *refused.split()])


def test_the_second_critics_weight_is_fixed_where_the_inner_losss_is_tuned():
    words = ["atari_stac", "--inner.value-weight", "0.3"]
    assert "which tunes it" in refused(*words)
    assert parse_train([*words, "--outer.separate-critic", "true"]).inner.value_weight == 0.3


@pytest.mark.parametrize("words", ["--window 5", "--meta-optimizer.learning-rate 0", "--meta-init.gamma 3"])
def test_what_tunes_is_refused_where_nothing_is_tuned(words):
    key, value = words.split()
    assert refused("atari_impala", *words.split()) == (
        f"{key}: {value} has no effect with --agent impala, which tunes nothing; leave it out"
    )


@pytest.mark.parametrize(
    "words, agent",
    [
        ("--intrinsic.weight 0.1", "lirpg"),
        ("--intrinsic.reward-weight 0", "lirpg"),
        ("--lpg.hidden 8", "lpg"),
        ("--bandit.early 1", "bandit"),
    ],
)
def test_settings_of_one_agent_are_refused_beside_another(words, agent):
    key, value = words.split()
    for other in set(AGENTS) - {agent, "stacx", "maml", "bandit"}:  # which ask for other settings first
        preset = {"lirpg": "atari_lirpg", "lpg": "catch_lpg"}.get(other, f"atari_{other}")
        assert refused(preset, *words.split()) == (
            f"{key}: {value} has no effect with --agent {other}; use --agent {agent}"
        )


def test_settings_of_one_agent_are_taken_by_it():
    assert parse_train(["atari_lirpg", "--intrinsic.reward-weight", "0"]).intrinsic.reward_weight == 0
    assert parse_train(["catch_lpg", "--lpg.hidden", "8"]).lpg.hidden == 8
    assert refused("atari_lirpg", "--intrinsic.weight", "0", "--intrinsic.reward-weight", "0").startswith(
        "--intrinsic.reward-weight: 0 is not allowed with --intrinsic.weight 0"
    )


@pytest.mark.parametrize("surrogate", ["lvc", "loaded_dice"])
def test_second_derivatives_that_nothing_reads_are_refused(surrogate):
    given = ["--inner.surrogate", surrogate]
    expected = f"--inner.surrogate: {surrogate} has no effect with --window 1; use --window 2 or more"
    assert refused("atari_stac", *given).startswith(expected)
    assert refused("atari_lirpg", *given, "--meta-gradient.objective", "all").startswith(expected)
    assert refused("atari_impala", *given).endswith("--agent impala, which tunes nothing; leave it out")
    assert parse_train(["atari_stac", *given, "--window", "2"])
    assert parse_train(["atari_stac", *given, "--meta-gradient.differentiation", "trace"])
    assert parse_train(["atari_stac", "--inner.surrogate", "off_policy"])  # whose gradient is another one at a lag


def test_our_agents_are_there():
    """What was added to them (docs/new_agent.md) may read what it likes."""
    assert set(AGENTS) <= set(agent_names())


def test_what_agents_of_others_read_nobody_knows(monkeypatch):
    """But what they say that they tune is no fixed value, and the rest of the experiment is ours."""
    monkeypatch.setattr("configs.given.AGENTS", tuple(set(AGENTS) - {"mgrl"}))
    for words in ("--network.hidden 8", "--meta-init.alpha 1", "--self-tuned.history 3", "--intrinsic.weight 1"):
        assert parse_train(["atari_mgrl", *words.split()])
    for words in ("--inner.gamma 0.9", "--optimizer.b1 0.5", "--environment.rounds 3"):
        assert "has no effect" in refused("atari_mgrl", *words.split())


@pytest.mark.parametrize(
    "words, why",
    [
        ("--lpg.predictions 8", "whose file says how large it is"),
        ("--lpg.hidden 8", "whose file says how large it is"),
        ("--lpg.embedding 8", "whose file says how large it is"),
        ("--lpg.prediction-entropy 0.1", "nothing is tuned"),
        ("--lpg.direction-penalty 0.1", "nothing is tuned"),
        ("--lpg.target-penalty 0.1", "nothing is tuned"),
        ("--window 3", "nothing is tuned"),
    ],
)
def test_what_a_rules_file_decides_or_a_rule_held_still_does_not_read_is_refused(words, why, rule):
    given = ["atari_impala", "--agent", "lpg", *words.split()]
    assert parse_train(given)
    told = refused(*given, "--rule", rule)
    assert told.startswith(f"{words.replace(' ', ': ')} has no effect with") and why in told
    assert parse_train([*given[:3], "--lpg.prediction-weight", "0.7", "--rule", rule])


def test_presets_take_a_rule_with_the_settings_that_the_page_names(rule):
    """docs/agents.md, "A learned rule": without them these presets are refused."""
    taken = ("atari_impala", "atari_mgrl", "atari_stac", "atari_lirpg", "two_colors_stac", "catch_lpg")
    needed = {
        "smoke": "--correction 0",
        "atari_stacx": "--inner.auxiliary-heads 0",
        "atari_bmg": "--inner.auxiliary-heads 0",
        "two_colors_bmg": "--self-tuned.parameters --self-tuned.form scalar",
    }
    for name in (*taken, *needed):
        words = [name, "--agent", "lpg", "--rule", rule]
        if name in needed:
            assert refused(*words).startswith(needed[name].split()[0])
        assert parse_train([*words, *needed.get(name, "").split()]).lpg.rule == rule


BANDIT = "smoke --agent bandit --game bandit --lag 0 --correction 0"
LIRPG = "atari_lirpg --outer.entropy-weight 0.1"
CASES = [  # a setting, beside what it is refused, and beside what it is taken
    ("--window 5", "atari_impala", "atari_stac"),
    ("--outer.kl-weight 0.5", "atari_impala", "atari_stac"),
    ("--outer.policy-weight 0.5", "atari_impala", "atari_impala --agent lirpg --outer.separate-critic true"),
    ("--optimizer.differentiate-second-moment true", "atari_impala", "atari_stac"),
    (
        "--inner.surrogate-decay 0.5",
        "atari_impala --inner.surrogate lsf --lag 0",
        "atari_stac --inner.surrogate lsf --lag 0",
    ),
    *((words, "catch_lpg --rule RULE", "catch_lpg") for words in ("--lpg.target-penalty 0.1", "--lpg.embedding 8")),
    ("--outer.gamma 0.9", "atari_impala", "atari_impala --outer.separate-critic true"),
    ("--outer.trace-lambda 0.9", "atari_impala", "catch_lpg"),
    ("--outer.trace-lambda 0.9", BANDIT, "atari_mgrl"),
    *((f"--inner.{name} 0.3", "catch_lpg", "atari_impala") for name in ("gamma", "trace-lambda", "alpha")),
    *((f"--inner.{name}-weight 0.3", "catch_lpg", "atari_impala") for name in ("policy", "entropy")),
    *(
        ("--inner.surrogate lvc", preset, "atari_stac --window 2")
        for preset in ("catch_lpg", "atari_impala", "atari_stac")
    ),
    ("--outer.separate-critic true", "catch_lpg", "atari_stac"),
    ("--outer.separate-critic true", BANDIT, "atari_impala"),
    *((f"--inner.{words}", BANDIT, "catch_lpg") for words in ("rho-clip 2", "reward-clip 2", "value-weight 2")),
    ("--inner.reduction mean", BANDIT, "atari_impala"),
    ("--inner.discount-states true", BANDIT, "catch_lpg"),
    *((f"--inner.{name} 0.3", BANDIT, "atari_impala") for name in ("gamma", "trace-lambda", "policy-weight")),
    ("--network.lstm 8", BANDIT, "smoke"),
    ("--network.hidden 8", BANDIT, "smoke"),
    ("--network.hidden 8", "atari_stac", "atari_stac --network.torso mlp"),
    *(
        (f"{flag(f'{group}.{name}')} 0.3", *(beside[::-1] if group == "inner" else beside))
        for name in HYPERPARAMETERS
        for group in ("inner", "meta_init")
        for beside in [(LIRPG, f"{LIRPG} --self-tuned.parameters {name}")]
        if (group, name) != ("inner", "value_weight")
    ),
    ("--inner.value-weight 0.3", "atari_stac", "atari_lirpg --self-tuned.parameters value_weight"),
    ("--meta-init.alpha 3", "atari_mgrl", "atari_stac"),
    ("--meta-init.gamma 3", "catch_lpg", "atari_mgrl"),
    ("--meta-init.gamma 3", BANDIT, "atari_stacx"),
    ("--self-tuned.entropy-bound 1", "atari_mgrl", "atari_stac"),
    ("--self-tuned.entropy-bound 1", "catch_lpg", "atari_mgrl --self-tuned.parameters entropy_weight"),
    ("--self-tuned.hidden 8", "atari_stac", "atari_stac --self-tuned.form state"),
    ("--self-tuned.hidden 8", "atari_impala", "two_colors_bmg"),
    ("--self-tuned.history 3", "atari_stac --self-tuned.form state", "two_colors_bmg"),
    ("--bandit.late 1", "smoke", BANDIT),
    ("--intrinsic.weight 0.1", "atari_stac", "atari_lirpg"),
    ("--lpg.hidden 8", "atari_stac", "catch_lpg"),
    *((f"--optimizer.{name} 0.5", "atari_stac", "smoke") for name in ("b1", "b2")),
    ("--optimizer.decay 0.5", "smoke", "atari_stac"),
    *(("--optimizer.eps 0.5", "two_colors_stac", words) for words in ("smoke", "atari_stac")),
    ("--optimizer.differentiate-second-moment true", "two_colors_stac", "smoke"),
    *((f"--meta-optimizer.{name} 0.5", "atari_lirpg", "atari_stac") for name in ("b1", "b2")),
    ("--meta-optimizer.decay 0.5", "atari_stac", "atari_lirpg"),
    *(("--meta-optimizer.eps 0.5", "smoke --meta-optimizer.name sgd", words) for words in ("smoke", "atari_lirpg")),
    *(
        (f"--meta-gradient.{words}", "smoke --correction 0", "smoke")
        for words in (
            "score-returns others",
            "score-reduction mean",
            "baseline none",
            "baseline-decay 0.5",
            "diagnostics 0",
        )
    ),
    ("--meta-gradient.diagnostics 0", "atari_stac", "atari_stac --meta-gradient.differentiation trace"),
    ("--meta-gradient.baseline-decay 0.5", "smoke --meta-gradient.baseline none", "smoke"),
    ("--meta-gradient.linearization keep", "atari_stac --meta-gradient.differentiation trace", "atari_stac"),
    ("--environment.protocol noop", "smoke", "atari_stac"),
    ("--environment.max-episode-frames 400", "smoke", "atari_stac --game breakout"),
    ("--environment.threads 2", "smoke", "atari_stac --runtime ray"),
    ("--pool.max-lag 2", "smoke", "smoke --lag free"),
    ("--ray.cpus-per-actor 2", "smoke", "smoke --runtime ray"),
]


@pytest.mark.parametrize("words, unread, read", CASES)
def test_a_setting_is_refused_where_it_is_not_read(words, unread, read, rule):
    told = refused(*unread.replace("RULE", rule).split(), *words.split())
    assert told.lower().startswith(f"{words.replace(' ', ': ')} has no effect with ")
    assert parse_train([*read.split(), *words.split()])


def test_every_row_has_a_case(rule):
    told = []
    for words, unread, _ in CASES:
        name, *rest = f"{unread.replace('RULE', rule)} {words}".split()
        config = override(preset(name), parse_words(rest, preset(name)))
        path = words.split()[0].removeprefix("--").replace("-", "_")
        told.append(next(row for row in ROWS if row.has(path) and not row.read(config)))
    # What games read they are asked themselves: test_given_programs.py.
    assert [row.settings for row in ROWS if row not in told and not row.settings.startswith("environment.")] == []
