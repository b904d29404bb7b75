import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import BadInput
from model.querying.outputs import FEATURES, OUTPUTS, Outputs, as_features
from model.querying.selection import Candidates, lowest, query_by_rank, strictly_rising


def test_strictly_rising_keeps_values_that_rise():
    assert strictly_rising(np.array([0.0, 0.25, 0.5])).tolist() == [0.0, 0.25, 0.5]


def test_strictly_rising_lifts_repeats_by_one_float_step():
    half = 0.5
    assert strictly_rising(np.array([half, half, 0.25])).tolist() == [
        half,
        np.nextafter(half, 1),
        np.nextafter(np.nextafter(half, 1), 1),
    ]


def test_strictly_rising_keeps_saturated_values_below_one():
    assert strictly_rising(np.array([0.5, 1.0, 1.0])).tolist() == [
        0.5,
        np.nextafter(np.nextafter(1, 0), 0),
        np.nextafter(1, 0),
    ]


@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, -0.0, 1.0, 5e-324])), max_size=40))
def test_strictly_rising_rises_strictly_below_one_and_stays_close(values):
    lifted = strictly_rising(np.array(values))
    assert (np.diff(lifted) > 0).all()
    assert ((lifted >= 0) & (lifted < 1)).all()
    assert np.allclose(lifted, np.maximum.accumulate(values) if values else [], rtol=0, atol=1e-12)


def test_strictly_rising_refuses_values_outside_the_unit_interval():
    with pytest.raises(BadInput, match=r"1\.5"):
        strictly_rising(np.array([0.5, 1.5]))
    with pytest.raises(BadInput, match="nan"):
        strictly_rising(np.array([0.5, np.nan]))


def test_ranked_spreads_the_scores_over_the_unit_interval():
    query = query_by_rank(np.array([7, 3, 5, 1]))
    assert query.indices.tolist() == [7, 3, 5, 1]
    assert query.scores.tolist() == [0.0, 0.25, 0.5, 0.75]


def test_lowest_breaks_ties_by_pool_index():
    indices, values = lowest(np.array([9, 4, 7]), np.array([0.5, 0.5, 0.1]), 2)
    assert indices.tolist() == [7, 4]
    assert values.tolist() == [0.1, 0.5]


def test_candidates_name_the_output_that_is_missing():
    candidates = Candidates(np.array([0]), np.zeros(1))
    for need in OUTPUTS:
        with pytest.raises(BadInput, match=need):
            candidates.rows(need)
    with pytest.raises(BadInput, match="labels"):
        candidates.labeled()


def test_candidates_count_the_rows_that_are_not_finite():
    probs = np.array([[0.5, 0.5], [np.nan, 1.0], [np.nan, np.nan]])
    candidates = Candidates(np.array([2, 0]), np.zeros(3), Outputs(probs=probs))
    with pytest.raises(BadInput, match="1 of 2 images"):
        candidates.rows("probs")


def test_features_are_computed_with_in_single_precision():
    features = np.full((3, 4), 300, FEATURES)  # its square is beyond what FEATURES holds
    candidates = Candidates(np.array([2, 0]), np.zeros(3), Outputs(embeddings=features))
    assert (candidates.rows("embeddings") ** 2).sum() == 2 * 4 * 300**2


def test_features_beyond_their_range_stay_numbers():
    kept = as_features(np.array([1.5, 1e6, -1e6], np.float32))
    assert kept.dtype == FEATURES
    assert kept.tolist() == [1.5, 65504.0, -65504.0]
