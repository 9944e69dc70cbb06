"""The order of a round's pages: each page once, by lot or ascending, and none that was written again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.errors import AdminError
from vilab.migration.page_order import RoundPages, ordered

PPNS = st.sets(st.integers(0, 5000), max_size=200).map(lambda ppns: np.array(sorted(ppns), np.int64))


@given(PPNS, st.sampled_from(["ascending", "random"]), st.integers(-1, 2**64), st.integers(1, 20))
def test_every_page_is_there_once_and_a_seed_says_all(ppns, order, seed, cluster):
    found = ordered(ppns, order, seed, cluster)
    assert sorted(found.tolist()) == ppns.tolist()
    assert found.tolist() == ordered(ppns, order, seed, cluster).tolist()


def test_by_lot_is_not_in_order_and_another_seed_is_another_order():
    ppns = np.arange(1000)
    one, other = ordered(ppns, "random", 1), ordered(ppns, "random", 2)
    assert one.tolist() != other.tolist()
    assert ordered(ppns, "ascending", 1).tolist() == ppns.tolist()
    for found in (one, other):
        # A cluster of 100 is spread over the round: every quarter has some of it, none has most.
        for start in range(0, 1000, 250):
            assert (
                10 <= np.count_nonzero((found[start : start + 250] >= 300) & (found[start : start + 250] < 400)) <= 45
            )


def test_every_place_is_equally_likely():
    first = [int(ordered(np.arange(8), "random", seed)[0]) for seed in range(4000)]
    counts = np.bincount(first, minlength=8)
    assert (abs(counts - 500) < 5 * (4000 * 1 / 8 * 7 / 8) ** 0.5).all()


def test_clusters_stay_together_and_ascending():
    ppns = np.array([0, 1, 2, 3, 5, 6, 7, 9, 10, 16, 17], np.int64)
    found = ordered(ppns, "random", 5, 4).tolist()
    clusters = [[0, 1, 2, 3], [5, 6, 7], [9, 10], [16, 17]]
    order = sorted(clusters, key=lambda cluster: found.index(cluster[0]))
    assert found == [ppn for cluster in order for ppn in cluster]
    assert len({tuple(ordered(ppns, "random", seed, 4).tolist()) for seed in range(200)}) == 24


@pytest.mark.parametrize(("order", "cluster"), [("backwards", 1), ("random", 0)])
def test_another_order_is_refused(order, cluster):
    with pytest.raises(AdminError, match="cannot be sent in the order"):
        ordered(np.arange(3), order, 0, cluster)


@given(PPNS, st.sampled_from(["ascending", "random"]), st.sampled_from([1, 4096, 10000, 5 * 4096, 1 << 20]), st.data())
def test_a_page_goes_once_or_is_left_to_the_next_round(ppns, order, batch_bytes, data):
    rounds = RoundPages(ppns, order, 3, batch_bytes)
    dirty: set[int] = set()
    sent: list[int] = []

    def is_dirty(some):
        return np.isin(some, list(dirty))

    while True:
        if len(ppns):
            dirty.update(data.draw(st.sets(st.sampled_from(ppns.tolist()), max_size=30)))
        batch = rounds.take(is_dirty)
        if not len(batch):
            break
        assert len(batch) <= max(1, batch_bytes // 4096)
        assert not set(batch.tolist()) & dirty
        sent += batch.tolist()
    assert rounds.left_pages == 0
    assert len(set(sent)) == len(sent) == len(ppns) - rounds.skipped_pages
    assert set(ppns.tolist()) - set(sent) <= dirty


def test_batches_are_full_even_where_pages_are_skipped():
    rounds = RoundPages(np.arange(100), "ascending", batch_bytes=10 * 4096)
    assert rounds.take(lambda ppns: ppns % 2 == 0).tolist() == list(range(1, 20, 2))
    assert (rounds.skipped_pages, rounds.left_pages) == (10, 80)
    assert rounds.take().tolist() == list(range(20, 30))
