"""The arms of the study of learned rewards, and what is claimed of each."""

import pytest

from scripts.studies.lirpg_delayed import ALONE, PLAIN, STUDY


@pytest.mark.parametrize("scale", ["smoke", "small", "paper"])
def test_late_rewards_have_an_arm_whose_inner_loss_has_the_learned_reward_alone(scale):
    cells = {cell.name: cell.content.config for cell in STUDY.cells(scale, 2)}
    alone = [name for name, config in cells.items() if config.intrinsic.reward_weight == 0]
    assert alone == [f"delayed: {ALONE}"]
    config = cells[alone[0]]
    assert config.environment.catch_runs == 2 and config.intrinsic.weight == 1
    assert config.outer == cells[f"delayed: {PLAIN}"].outer


def test_every_arm_but_the_plain_one_has_a_claim_of_its_own():
    names = [cell.name for cell in STUDY.cells("small", 2)]
    rows = [{"cell": name, "seed": seed, "reward": float(PLAIN in name) + seed} for name in names for seed in range(2)]
    verdicts = STUDY.judge(rows)
    assert len(verdicts) == sum(PLAIN not in name for name in names) == 10
    assert sum(ALONE in verdict.claim for verdict in verdicts) == 1
    assert {verdict.verdict for verdict in verdicts} == {"disagree"}
