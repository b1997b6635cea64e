"""Learned rules as files."""

import zipfile

import jax
import numpy as np
import pytest

from agents.networks_meta import rule_network
from agents.rules import load_rule, rule_sizes, save_rule

SIZES = {"predictions": 3, "hidden": 4, "embedding": 2}
RULE = {
    "policy": {"w": np.ones((4, 1))},
    "target": {"w": np.zeros((4, 3)), "b": np.arange(3.0)},
    "embed/~/linear_0": {"w": np.ones((3, 2))},
}


def test_what_was_saved_is_loaded(tmp_path):
    save_rule(tmp_path / "rule", RULE)
    loaded = load_rule(tmp_path / "rule")
    assert loaded.keys() == RULE.keys()
    for module, leaves in RULE.items():
        for name, leaf in leaves.items():
            np.testing.assert_array_equal(loaded[module][name], leaf)


def test_a_rule_knows_its_sizes():
    made = rule_network(4, **SIZES).init(jax.random.key(0))
    assert rule_sizes(made) == rule_sizes(RULE) == SIZES


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
    for other in ({"policy": {"w": np.ones((4, 1))}}, RULE | {"policy": {"w": np.ones((5, 1))}}):
        save_rule(path, other)
        with pytest.raises(ValueError, match="its arrays are not a rule's"):
            load_rule(path)
