"""Steps of training: vbench's own loop, a loop written by hand, Pyro's SVI and Pythae's trainer."""

from __future__ import annotations

import importlib.util

import pytest

from benchmarks import loops, pairs, shares
from vbench.estimators.reparam import reparam

TASKS = {"MNIST 784-200-200-50": loops.MNIST, "digits 64-64-16": loops.DIGITS}
PEERS = {"Pyro": loops.pyro_svi, "Pythae": loops.pythae_trainer}
WANTED = {("MNIST 784-200-200-50", "by hand"): 1.15, ("MNIST 784-200-200-50", "Pyro"): 1.6} | {
    ("MNIST 784-200-200-50", "Pythae"): 1.5
}


@pytest.mark.parametrize("name", TASKS)
def test_training(compare, name: str) -> None:
    task, steps = TASKS[name], float(loops.STEPS)
    products, operations = loops.matrix_products(task)
    peers = {peer: make(task) for peer, make in PEERS.items() if importlib.util.find_spec(peer.lower())}
    runs = {
        "vbench": (loops.vbench(task, reparam()), steps),
        "by hand": (loops.by_hand(task), steps),
        "by hand, fused Adam": (loops.by_hand(task, fused=True), steps),
        **{peer: (run, task.rows / loops.BATCH if peer == "Pythae" else steps) for peer, run in peers.items()},
        "matrix products alone": (products, steps),
    }
    wanted = [("vbench", other, WANTED.get((name, other), 0.0)) for other in [*runs][1:]]
    compare(f"a step, {name}, batch {loops.BATCH}", runs, operations, wanted)


@pytest.mark.parametrize("name", TASKS)
def test_what_a_step_is_made_of(benchmark, note, name: str) -> None:
    loop = loops.vbench(TASKS[name], reparam())
    found = benchmark.pedantic(lambda: shares.of(loop, calls=10), rounds=1)
    for part, share in found.items():
        note(pairs.Row(f"a part of vbench's step, {name}", part, "the step", f"{share:.0%}"))
