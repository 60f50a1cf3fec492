"""The order of rows: epochs without replacement, every step a function of the key."""

import pytest
import torch
from scipy.stats import chi2

from vbench.batches import Order

LIMIT = 1e-6  # a correct draw fails with this probability; seeds are fixed


def test_an_epoch_has_no_row_twice_and_drops_what_is_left_over():
    order = Order(23, 5, key=1)
    assert order.steps_per_epoch == 4
    seen = set()
    for epoch in range(30):
        rows = torch.cat([order.indices(4 * epoch + step) for step in range(4)])
        assert rows.shape == (20,)
        assert len(rows.unique()) == 20
        seen.update(rows.tolist())
    assert seen == set(range(23))


def test_epochs_and_keys_have_their_own_order():
    rows = [Order(50, 50, key).indices(epoch) for key in (0, 1) for epoch in (0, 1)]
    assert len({tuple(r.tolist()) for r in rows}) == 4


def test_every_row_is_equally_likely_at_every_place():
    epochs, n = 4000, 10
    order = Order(n, n, key=2)
    counts = torch.zeros(n, n)
    for epoch in range(epochs):
        counts[torch.arange(n), order.indices(epoch)] += 1
    expected = epochs / n
    spread = ((counts - expected) ** 2 / expected).sum() * (n - 1) / n  # rows and columns both sum to the epochs
    assert spread < chi2.ppf(1 - LIMIT, (n - 1) ** 2)


def test_steps_may_be_asked_for_in_any_order():
    steps = [0, 17, 3, 3, 4, 100, 0]
    order = Order(23, 5, key=1)
    assert all(torch.equal(order.indices(step), Order(23, 5, key=1).indices(step)) for step in steps)


def test_a_batch_larger_than_the_set_is_the_whole_set():
    order = Order(7, 100, key=0)
    assert order.steps_per_epoch == 1
    assert sorted(order.indices(3).tolist()) == list(range(7))


@pytest.mark.parametrize(("n", "batch"), [(0, 1), (5, 0), (5, -1)])
def test_an_order_needs_rows(n, batch):
    with pytest.raises(ValueError, match="at least 1"):
        Order(n, batch, key=0)
