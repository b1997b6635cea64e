from configs.experiment import ExperimentConfig
from configs.tree import leaves
from scripts.configuration import PATH, markdown


def test_the_page_is_up_to_date():
    assert PATH.read_text() == markdown(), "run python -m scripts.configuration"


def test_every_setting_has_its_row():
    page = markdown()
    for setting in leaves(ExperimentConfig()):
        assert f"| `{setting.flag}` | " in page
