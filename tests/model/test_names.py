from model import names
from model.learners.own_network import RECIPES
from model.networks.backbones import NETWORKS
from model.pretext import PRETEXT_TASKS, jigsaw


def test_names_equal_the_registries() -> None:
    assert set(names.PRETEXT_TASKS) == set(PRETEXT_TASKS)
    assert set(names.NETWORKS) == {"auto", *NETWORKS}
    assert set(names.RECIPES) == set(RECIPES)


def test_smallest_sides_are_those_that_the_tasks_refuse_less_than():
    assert names.SMALLEST_SIDES == {"jigsaw": jigsaw.SMALLEST_IMAGE}
