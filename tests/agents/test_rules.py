"""Learned rules as files."""

import zipfile

import jax
import numpy as np
import pytest

from agents.networks_meta import rule_network
from agents.rules import INPUTS, load_rule, rule_sizes, save_rule

SIZES = {"predictions": 3, "hidden": 4, "embedding": 2}
_SHAPES = jax.eval_shape(lambda: rule_network(INPUTS, **SIZES).init(jax.random.key(0)))
RULE = jax.tree.map(lambda x: np.linspace(0.0, 1.0, x.size).reshape(x.shape), _SHAPES)


def test_what_was_saved_is_loaded(tmp_path):
    save_rule(tmp_path / "rule", RULE)
    loaded = load_rule(tmp_path / "rule")
    assert loaded.keys() == RULE.keys()
    for module, leaves in RULE.items():
        for name, leaf in leaves.items():
            np.testing.assert_array_equal(loaded[module][name], leaf)


def test_a_rule_knows_its_sizes():
    assert rule_sizes(RULE) == SIZES


def test_what_is_no_rule_or_another_one_is_told_in_one_line(tmp_path):
    path = tmp_path / "rule.npz"
    with pytest.raises(ValueError, match=r"rule.npz' is missing"):
        load_rule(path)
    with pytest.raises(ValueError, match=r"holds no rule: Is a directory$"):
        load_rule(tmp_path)
    np.save(tmp_path / "array.npy", np.ones(3))
    with pytest.raises(ValueError, match="holds no rule"):
        load_rule(tmp_path / "array.npy")
    path.write_text("nothing")
    with pytest.raises(ValueError, match=r"rule.npz' holds no rule: it is not a .npz file as `onelife study") as told:
        load_rule(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("target|w", b"no array")
    with pytest.raises(ValueError, match="its arrays are not a rule's"):
        load_rule(path)
    assert "\n" not in str(told.value)


def _changed(module, **leaves):
    """The rule with other arrays in a module; None takes one away."""
    own = RULE[module] | leaves
    return RULE | {module: {name: leaf for name, leaf in own.items() if leaf is not None}}


@pytest.mark.parametrize(
    "other",
    [
        {"policy": RULE["policy"]},
        {module: leaves for module, leaves in RULE.items() if "lstm" not in module},
        RULE | {"more": {"w": np.ones(3)}},
        _changed("policy", w=np.ones((5, 1))),
        _changed("policy", b=None),
        _changed("policy", b=np.ones(5)),
        _changed("lstm/linear", w=RULE["lstm/linear"]["w"][1:]),
    ],
)
def test_arrays_that_are_no_rules_are_told(other, tmp_path):
    save_rule(tmp_path / "rule.npz", other)
    with pytest.raises(ValueError, match="its arrays are not a rule's"):
        load_rule(tmp_path / "rule.npz")


def test_a_rule_is_finite(tmp_path):
    save_rule(tmp_path / "rule.npz", _changed("policy", w=np.full((4, 1), np.nan)))
    with pytest.raises(ValueError, match="not all of its numbers are finite"):
        load_rule(tmp_path / "rule.npz")
