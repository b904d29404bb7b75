from model import names
from model.learner import RECIPES
from model.networks import NETWORKS
from model.pretext import PRETEXT_TASKS


def test_names_equal_the_registries() -> None:
    assert set(names.PRETEXT_TASKS) == set(PRETEXT_TASKS)
    assert set(names.NETWORKS) == {"auto", *NETWORKS}
    assert set(names.RECIPES) == set(RECIPES)
