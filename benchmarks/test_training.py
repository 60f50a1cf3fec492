"""Training speed beside a hand-written loop over the same nets, batch and optimiser, in one run.

``python -m pytest benchmarks --benchmark-only`` prints both groups; the ratio of medians is what counts, since machines
differ and are shared. One torch thread, bytes in memory, 784-200-200-50, batch 100, Adam.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from vbench import Estimator, Model, Rng, Space
from vbench.batches import Order, training_batch
from vbench.builtin.datasets.tensors import TensorDataset
from vbench.builtin.decoders.bernoulli import BernoulliDecoder
from vbench.builtin.encoders.gaussian import GaussianEncoder
from vbench.builtin.priors.standard_normal import StandardNormalPrior
from vbench.estimators.reparam import reparam
from vbench.rng import derive

STEPS, BATCH = 50, 100


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data() -> TensorDataset:
    pixels = torch.randint(0, 256, (10_000, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    few = pixels[:1]
    return TensorDataset(pixels, few, few, Space((28, 28), "binary"), "0" * 64, "dynamic")


def hand_written(data: TensorDataset):
    """What a researcher writes in an afternoon."""
    encoder = nn.Sequential(nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 100))
    decoder = nn.Sequential(nn.Linear(50, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 784))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3)
    pixels = data.train.flatten(1)

    def steps() -> None:
        for _ in range(STEPS):
            x = torch.bernoulli(pixels[torch.randint(0, len(pixels), (BATCH,))] / 255)
            loc, log_scale = encoder(x).chunk(2, -1)
            z = loc + log_scale.exp() * torch.randn_like(loc)
            fit = functional.binary_cross_entropy_with_logits(decoder(z), x, reduction="none").sum(-1)
            kl = (0.5 * (loc.square() + (2 * log_scale).exp() - 1) - log_scale).sum(-1)
            loss = (fit + kl).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return steps


def ours(data: TensorDataset, estimator: Estimator):
    """The runner's own step, without its measurements."""
    mean = data.train.float().mean(0) / 255
    encoder = GaussianEncoder(data.x)
    model = Model(encoder, BernoulliDecoder(data.x, encoder.z, mean), StandardNormalPrior(encoder.z))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    order = Order(len(data.train), BATCH, 0)

    def steps() -> None:
        for step in range(STEPS):
            batch = training_batch(data, step, STEPS, 0, order)
            estimate = estimator(model, batch, Rng(derive("noise", 0, step)))
            optimizer.zero_grad(set_to_none=True)
            (-estimate.surrogate.mean()).backward()
            optimizer.step()

    return steps


@pytest.mark.parametrize("who", ["hand-written", "vbench sampled KL", "vbench analytic KL"])
@pytest.mark.benchmark(group="50 steps of a VAE, 784-200-200-50, batch 100")
def test_training(benchmark, data: TensorDataset, who: str) -> None:
    if who == "hand-written":
        run = hand_written(data)
    else:
        run = ours(data, estimator=reparam(kl="sampled" if "sampled" in who else "analytic"))
    benchmark.pedantic(run, rounds=20, warmup_rounds=2)


@pytest.mark.parametrize("who", ["torch", "vbench"])
@pytest.mark.benchmark(group="normal noise [1, 100, 50]")
def test_noise(benchmark, who: str) -> None:
    benchmark((lambda: torch.randn(1, 100, 50)) if who == "torch" else (lambda: Rng(7).normal(1, 100, 50)))
