"""Learned rules as files."""

import jax
import numpy as np
import pytest

from agents.config import LPGConfig
from agents.networks_meta import rule_network
from agents.rules import load_rule, rule_shapes, save_rule

CONFIG = LPGConfig(predictions=3, hidden=4, embedding=2)
RULE = {
    "policy": {"w": np.ones((4, 1))},
    "target": {"w": np.zeros((4, 3)), "b": np.arange(3.0)},
    "embed/~/linear_0": {"w": np.ones((3, 2))},
}


def test_what_was_saved_is_loaded(tmp_path):
    save_rule(tmp_path / "rule", RULE)
    loaded = load_rule(tmp_path / "rule", rule_shapes(CONFIG))
    assert loaded.keys() == RULE.keys()
    for module, leaves in RULE.items():
        for name, leaf in leaves.items():
            np.testing.assert_array_equal(loaded[module][name], leaf)


def test_names_are_those_of_the_network():
    made = rule_network(4, CONFIG.predictions, CONFIG.hidden, CONFIG.embedding).init(jax.random.key(0))
    flat = {f"{module}|{name}": leaf.shape for module, leaves in made.items() for name, leaf in leaves.items()}
    assert rule_shapes(CONFIG).items() <= flat.items()


def test_what_is_no_rule_or_another_one_is_told_in_one_line(tmp_path):
    path = tmp_path / "rule.npz"
    with pytest.raises(ValueError, match="holds no rule"):
        load_rule(path, {})
    np.save(tmp_path / "array.npy", np.ones(3))
    with pytest.raises(ValueError, match="holds no rule"):
        load_rule(tmp_path / "array.npy", {})
    path.write_text("nothing")
    with pytest.raises(ValueError, match="holds no rule") as told:
        load_rule(path, {})
    assert "\n" not in str(told.value)
    save_rule(path, RULE)
    with pytest.raises(ValueError, match=r"another rule: target\|w is \(4, 3\), and should be \(4, 8\)"):
        load_rule(path, rule_shapes(LPGConfig(predictions=8, hidden=4, embedding=2)))
