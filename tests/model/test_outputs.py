"""The table of outputs, and what images get that came after a model."""

from dataclasses import fields

import numpy as np
import pytest

from model.errors import BadInput
from model.problems import PROBLEMS
from model.querying.outputs import DERIVED, FEATURES, OUTPUTS, Outputs, extended, pool_axis, sizes_of
from model.querying.plan import Pool, QuerySettings, plan_round
from model.querying.selection import Candidates


def test_the_table_describes_every_field_and_nothing_else() -> None:
    assert list(OUTPUTS) == [field.name for field in fields(Outputs)]
    assert not DERIVED & OUTPUTS.keys()


@pytest.mark.parametrize("name", OUTPUTS)
def test_images_that_came_later_get_the_neutral_value(name: str) -> None:
    shapes = {"ensemble_probs": (3, 4, 5), "mutual_information": (4,), "predicted_losses": (4,)}
    shapes |= {"dropout_entropy": (4,), "detached_losses": (4,), "labeled_probability": (4,)}
    shapes |= {"task_aware_probability": (4,), "critic": (4,), "dropout_probs": (3, 4, 5)}
    shapes |= {"turned_embeddings": (4, 4, 5), "places": (4, 4, 5)}
    known = np.arange(np.prod(shapes.get(name, (4, 5))), dtype=OUTPUTS[name].dtype).reshape(shapes.get(name, (4, 5)))
    grown = extended(name, known, 6)
    axis = pool_axis(name)
    assert (grown.shape[axis], grown.dtype) == (6, known.dtype)
    np.testing.assert_array_equal(grown.take(range(4), axis), known)
    neutral = {
        "values": 9.5,
        "probs": 0.2,
        "ensemble_probs": 0.2,
        "dropout_probs": 0.2,
        "graph_features": 0.0,
        "turned_embeddings": 0.0,
        "places": 0.0,
        "class_probs": 0.5,
        "logits": 0.0,
        "embeddings": 0.0,
        "pretext_embeddings": 0.0,
        "class_maps": 255,
        "boxes": -1.0,
    }
    np.testing.assert_allclose(
        grown.take([4, 5], axis), neutral.get(name, 1.5), rtol=1e-3 if name == "dropout_probs" else 1e-6
    )
    np.testing.assert_array_equal(extended(name, known, 3), known.take(range(3), axis))


def test_sizes_count_images() -> None:
    given = Outputs(probs=np.zeros((7, 2)), ensemble_probs=np.zeros((3, 7, 2)), embeddings=np.zeros((7, 4), FEATURES))
    assert sizes_of(given) == {"probs": 7, "ensemble_probs": 7, "embeddings": 7}


def test_derived_outputs_are_those_of_the_problem() -> None:
    given = Outputs(class_probs=np.array([[0.9, 0.2], [0.5, 0.5]], np.float32))
    candidates = Candidates(np.array([1, 0]), np.zeros(2), given, problem=PROBLEMS["multi_label"])
    assert candidates.rows("uncertainty") == pytest.approx([1.0, 0.3])
    decoded = Candidates(
        np.array([0]), np.zeros(2), given, problem=PROBLEMS["multi_label"], decoding={"thresholds": [0.95, 0.1]}
    )
    assert decoded.rows("confidence") == pytest.approx([2 * 0.2 / (1 + 1.1)])
    with pytest.raises(BadInput, match="needs 'probs'"):
        Candidates(np.array([1, 0]), np.zeros(2), given).rows("uncertainty")


@pytest.mark.parametrize("sampler", ["least_confidence", "uncertainty_herding", "core_set"])
def test_a_round_of_a_multi_label_project_is_planned_with_what_its_models_give(sampler: str) -> None:
    generator = np.random.default_rng(0)
    given = Outputs(
        class_probs=generator.random((60, 3), np.float32), embeddings=generator.normal(size=(60, 4)).astype(FEATURES)
    )
    pool = Pool(generator.random(60, np.float32), np.arange(60) % 2, np.ones(60, bool))
    settings = QuerySettings(2, 6, 2, 5, sampler=sampler, problem="multi_label")
    plan = plan_round(1, pool, given, settings, generator)
    assert (len(plan.indices), len(plan.reserve)) == (8, 5)
    assert set(plan.indices[~plan.holdout] % 2) == {1}


def test_a_sampler_that_the_problem_cannot_serve_is_refused() -> None:
    with pytest.raises(BadInput, match="'margin' needs one posterior"):
        QuerySettings(2, 6, sampler="margin", problem="multi_label")
