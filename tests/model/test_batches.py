import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.errors import BadInput, UnknownName
from model.querying.batches import BATCH_ORDERS, batch_order, in_order, place, ranking, split

FINITE = st.floats(0, 10, width=32)


def losses_of(*values):
    return np.array(values, np.float32)


def test_split_high_first_cuts_the_descending_ranking():
    assert split(losses_of(0.1, 0.9, 0.5, 0.7), 2, "high_first").tolist() == [1, 0, 1, 0]


def test_split_low_first_cuts_the_ascending_ranking():
    assert split(losses_of(0.1, 0.9, 0.5, 0.7), 2, "low_first").tolist() == [0, 1, 0, 1]


def test_split_interleaved_deals_the_ranks_round_robin():
    # Descending: 5 4 3 2 1 0 at the indices 5..0; ranks 0, 2, 4 -> batch 0.
    assert split(losses_of(0, 1, 2, 3, 4, 5), 2, "interleaved").tolist() == [1, 0, 1, 0, 1, 0]


def test_split_released_code_puts_tiny_losses_among_the_hardest():
    # As text: "9.999999747378752e-05" > "2.5" > "1.5" > "0.5"
    assert ranking(losses_of(0.5, 1.5, 1e-4 * 0.99999, 2.5), "released_code").tolist() == [2, 3, 1, 0]


def test_random_batches_have_nothing_to_do_with_the_losses():
    losses = np.random.default_rng(0).random(3000).astype(np.float32)
    batch_of = split(losses, 10, "random")
    assert abs(np.corrcoef(losses, batch_of)[0, 1]) < 0.05
    assert split(losses[::-1].copy(), 10, "random").tolist() == batch_of[::-1].tolist(), "an image keeps its batch"


def test_released_code_sorts_as_python_sorts_the_printed_numbers():
    losses = np.random.default_rng(0).lognormal(-3, 4, 500).astype(np.float32)
    texts = [str(float(loss)) for loss in losses]
    expected = sorted(range(500), key=lambda i: texts[i], reverse=True)
    assert ranking(losses, "released_code").tolist() == expected


@pytest.mark.parametrize("order", BATCH_ORDERS)
def test_split_breaks_ties_by_pool_index(order):
    assert ranking(np.full(5, 0.25, np.float32), order).tolist() == [0, 1, 2, 3, 4]


@given(
    losses=arrays(np.float32, st.integers(0, 60), elements=FINITE),
    batches=st.integers(1, 12),
    order=st.sampled_from(sorted(set(BATCH_ORDERS) - {"none"})),
)
def test_split_makes_batches_equal_to_within_one(losses, batches, order):
    sizes = np.bincount(split(losses, batches, order), minlength=batches)
    assert len(sizes) == batches
    assert sizes.sum() == len(losses)
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_split_refuses_losses_that_are_not_finite(bad):
    with pytest.raises(BadInput, match="1 of 3 losses"):
        split(losses_of(1, bad, 2), 2, "high_first")


def test_split_refuses_less_than_one_batch_and_a_matrix():
    with pytest.raises(BadInput, match="at least one batch"):
        split(losses_of(1, 2), 0, "high_first")
    with pytest.raises(BadInput, match=r"shape \(2, 1\)"):
        split(losses_of(1, 2)[:, None], 1, "high_first")


def test_batch_order_unknown_name_lists_the_choices():
    with pytest.raises(UnknownName, match="high_first, interleaved, low_first, none, random, released_code"):
        batch_order("hardest")


@given(
    losses=arrays(np.float32, st.integers(1, 60), elements=FINITE, unique=True),
    batches=st.integers(1, 8),
    order=st.sampled_from(sorted(BATCH_ORDERS)),
)
def test_place_gives_a_loss_that_exists_the_batch_of_that_image(losses, batches, order):
    batch_of = split(losses, batches, order)
    assert place(losses, losses, batch_of, order).tolist() == batch_of.tolist()


def test_place_counts_the_ranks_before_the_new_loss():
    losses = losses_of(9, 8, 7, 6, 5, 4)
    new = losses_of(10, 7.5, 6.5, 0)
    assert place(new, losses, split(losses, 3, "high_first"), "high_first").tolist() == [0, 1, 1, 2]
    assert place(new, losses, split(losses, 3, "low_first"), "low_first").tolist() == [2, 2, 1, 0]
    # Ranks 0, 2, 3 and 6 modulo 3.
    assert place(new, losses, split(losses, 3, "interleaved"), "interleaved").tolist() == [0, 2, 0, 0]


def test_none_keeps_the_pool_whole_and_its_order_of_loss():
    losses = losses_of(1, 3, 2)
    assert split(losses, 4, "none").tolist() == [0, 0, 0]
    assert place(losses_of(9, 0), losses, split(losses, 4, "none"), "none").tolist() == [0, 0]
    assert ranking(losses, "none").tolist() == [1, 2, 0]


def test_place_without_a_split_is_refused():
    with pytest.raises(BadInput, match="needs a split"):
        place(losses_of(1), losses_of(), np.empty(0, np.int64), "high_first")


def test_place_refuses_a_loss_that_is_not_finite():
    with pytest.raises(BadInput, match="1 of 1 losses"):
        place(losses_of(np.nan), losses_of(1), np.zeros(1, np.int64), "high_first")


def test_in_order_sorts_the_members_of_a_batch_by_loss_with_ties_by_index():
    losses = losses_of(5, 1, 3, 3, 9)
    assert in_order(np.array([3, 0, 2, 1]), losses, "high_first").tolist() == [0, 2, 3, 1]
    assert in_order(np.array([3, 0, 2, 1]), losses, "low_first").tolist() == [1, 2, 3, 0]
