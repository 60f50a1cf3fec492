"""Seeds trained together: how fast, and whether a seed comes to the same bits as alone."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks import lanes, loops, pairs
from vbench.estimators.reparam import reparam

GROUPS = [[0, 1], [1, 0], [0, 1, 2], [7, 0, 3], [1, 2, 0], [*range(16)], [*range(15, -1, -1)]]
WANTED = {1: ("1 lane", 0.0), 3: ("3 lanes", 1.3), 16: ("16 lanes", 2.0)}


def test_lanes(compare) -> None:
    products, operations = loops.matrix_products(loops.DIGITS)
    groups = {
        name: (lanes.Lanes(loops.DIGITS, reparam(), range(count)), float(count * loops.STEPS))
        for count, (name, _) in WANTED.items()
    }
    runs = {
        "by hand": (loops.by_hand(loops.DIGITS), float(loops.STEPS)),
        "vbench": (loops.vbench(loops.DIGITS, reparam()), float(loops.STEPS)),
        **groups,
        "matrix products alone": (products, float(loops.STEPS)),
    }
    wanted = [(name, "by hand", least) for name, least in WANTED.values()]
    compare("a step of a seed, digits 64-64-16, batch 100", runs, operations, wanted)


@pytest.mark.parametrize("hidden", [37, 64, 100])
def test_bits(benchmark, note, hidden: int) -> None:
    task = dataclasses.replace(loops.DIGITS, hidden=(hidden,))
    found = benchmark.pedantic(lambda: lanes.differing(task, reparam(), GROUPS), rounds=1)
    figure = f"other bits at {', '.join(found)}" if found else "the same bits"
    note(pairs.Row(f"a seed after {2 * loops.STEPS} steps, digits 64-{hidden}-16", "beside others", "alone", figure))
