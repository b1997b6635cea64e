"""The presets: what their numbers rest on, as a text, and what the Atari ones are, against the papers' tables."""

import re
from pathlib import Path

import pytest

from configs import presets
from configs.tree import leaves


def test_every_number_has_a_mark_of_its_source():
    """(S), (R), (C) or (O), on its line or in a line of comment at most three above: a neighbour's does not count."""
    lines = Path(presets.__file__).read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("@_preset"))
    mark = re.compile(r"#.*\([SRCO][:)]")
    numbers = [i for i in range(start, len(lines)) if re.search(r"=\(?-?\d", lines[i].split("#")[0])]
    assert len(numbers) > 40
    comments = [line if line.strip().startswith("#") else "" for line in lines]
    marked = [i for i in numbers if any(map(mark.search, (lines[i], *comments[i - 3 : i])))]
    assert [lines[i].strip() for i in numbers if i not in marked] == []


# Sections are those of methods.md, the sheet of the papers' methods; where it has two numbers or none, that is said.
IMPALA = {  # Section 6, "base agent"; decay: Section 7, "inner optimizer"
    "frames": 200_000_000,
    "streams": 32,
    "unroll": 20,
    "inner.gamma": 0.99,  # Section 6, "headline medians"
    "inner.trace_lambda": 1.0,  # plain V-trace, as Section 7 has it outside, and the next three
    "inner.alpha": 1.0,
    "inner.policy_weight": 1.0,
    "inner.rho_clip": 1.0,
    "inner.value_weight": 0.5,
    "inner.entropy_weight": 0.01,
    "inner.reward_clip": 1.0,  # Section 10
    "inner.reduction": "sum",
    "optimizer.name": "rmsprop",
    "optimizer.learning_rate": 6e-4,
    "optimizer.anneal": True,
    "optimizer.decay": 0.99,
    "optimizer.eps": 0.01,  # IMPALA's own table and Section 7's (C); Section 7 recalls 0.1 of STAC
    "optimizer.max_grad_norm": 40.0,
    "optimizer.differentiate_second_moment": False,  # Section 1.10
}
STAC = IMPALA | {  # Section 7
    "window": 1,
    "outer.gamma": 0.995,
    "outer.trace_lambda": 1.0,
    "outer.value_weight": 0.25,
    "outer.policy_weight": 1.0,
    "outer.entropy_weight": 0.01,
    "outer.kl_weight": 1.0,
    "outer.separate_critic": False,
    "meta_gradient.objective": "same",
    "meta_optimizer.name": "adam",
    "meta_optimizer.learning_rate": 1e-3,
    "meta_optimizer.b1": 0.9,
    "meta_optimizer.b2": 0.999,
    "meta_optimizer.eps": 1e-4,
    "meta_optimizer.anneal": False,
    "meta_optimizer.max_grad_norm": 0.0,
}
STACX = STAC | {"inner.auxiliary_heads": 2}  # Section 7: three heads
TABLES = {
    "atari_impala": IMPALA,
    "atari_mgrl": STAC  # ε and β are STAC's
    | {  # Section 6: γ' and λ', the policy-gradient term only, on the next sample; the rate of η
        "outer.gamma": 0.995,
        "outer.trace_lambda": 1.0,
        "outer.policy_weight": 1.0,
        "outer.value_weight": 0.0,
        "outer.entropy_weight": 0.0,
        "outer.kl_weight": 0.0,
        "meta_gradient.objective": "next",
        "meta_optimizer.learning_rate": 1e-3,
    },
    "atari_stac": STAC,
    "atari_stacx": STACX,
    "atari_bmg": STACX  # Section 8, "default to the STAC table" for the meta-optimiser; no KL in the outer loss is ours
    | {
        "outer.kl_weight": 0.0,
        "meta_gradient.objective": "bootstrap",
        "bootstrap.updates": 4,
        "bootstrap.match_policy": 1.0,
        "bootstrap.match_value": 0.0,
        "bootstrap.match_parameters": 0.0,
    },
    "atari_lirpg": {  # Section 9; γ and λ outside are the inner ones, of A2C's returns
        "frames": 200_000_000,  # 50M steps
        "streams": 16,
        "unroll": 5,
        "lag": "1",  # ours
        "window": 1,
        "inner.gamma": 0.99,
        "inner.value_weight": 0.5,
        "inner.entropy_weight": 0.01,
        "inner.reduction": "mean",
        "intrinsic.weight": 0.01,
        "intrinsic.reward_weight": 1.0,
        "outer.gamma": 0.99,
        "outer.trace_lambda": 1.0,
        "outer.policy_weight": 1.0,
        "outer.value_weight": 0.1,
        "outer.entropy_weight": 0.0,
        "outer.kl_weight": 0.0,
        "outer.separate_critic": True,
        "meta_gradient.objective": "same",
        "optimizer.name": "rmsprop",
        "optimizer.learning_rate": 7e-4,
        "optimizer.anneal": True,
        "optimizer.decay": 0.99,
        "optimizer.eps": 1e-5,
        "optimizer.max_grad_norm": 0.5,
        "optimizer.differentiate_second_moment": False,
        "meta_optimizer.name": "rmsprop",
        "meta_optimizer.learning_rate": 7e-4,
        "meta_optimizer.anneal": True,
        "meta_optimizer.decay": 0.99,
        "meta_optimizer.eps": 1e-5,
        "meta_optimizer.max_grad_norm": 0.5,
    },
}
OF_OTHER_OPTIMISERS = {"adam": ("decay",), "rmsprop": ("b1", "b2")}


@pytest.mark.parametrize("name", TABLES)
def test_atari_presets_have_the_papers_numbers(name):
    settings, expected = {s.path: s.value for s in leaves(presets.preset(name))}, TABLES[name]
    assert {path: settings[path] for path in expected} == expected
    # The table is whole: nothing of these groups that the preset reads is left to chance.
    groups = ["optimizer"] if name == "atari_impala" else ["outer", "optimizer", "meta_optimizer"]
    for group in groups:
        unread = OF_OTHER_OPTIMISERS.get(settings.get(f"{group}.name"), ())
        own = {path for path in settings if path.startswith(f"{group}.")} - {f"{group}.{leaf}" for leaf in unread}
        assert own <= set(expected), own - set(expected)
