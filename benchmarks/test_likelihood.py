"""Held-out log likelihood by importance sampling beside the matrix products that it cannot do without."""

from __future__ import annotations

import torch

from benchmarks import loops
from vbench.measure.likelihood import log_likelihoods
from vbench.types import Batch

DATA, SAMPLES = 20, 5000
ROWS = 500  # of one product: the fastest of 250, 500, 1000 and 2000


def test_log_likelihood(compare) -> None:
    model, count = loops.MNIST.model(), float(DATA * SAMPLES)
    x = loops.minibatch(loops.MNIST.data().train.flatten(1))[:DATA].unflatten(1, (28, 28))
    weights = [layer.weight.detach() for layer in model.decoder.modules() if isinstance(layer, torch.nn.Linear)]
    inputs = [torch.randn(ROWS, weight.shape[1]) for weight in weights]

    def products() -> None:
        for _ in range(DATA * SAMPLES // ROWS):
            for rows, weight in zip(inputs, weights, strict=True):
                torch.mm(rows, weight.t())

    runs = {
        "vbench": (lambda: log_likelihoods(model, [Batch(x, torch.arange(DATA))], k=SAMPLES, key=0), count),
        "matrix products alone": (products, count),
    }
    operations = 2.0 * count * sum(weight.numel() for weight in weights)
    what = f"a sample of log p(x), MNIST 784-200-200-50, k = {SAMPLES}"
    compare(what, runs, operations, [("vbench", "matrix products alone", 1 / 1.7)], rounds=12)
