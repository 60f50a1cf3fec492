"""The moments engine beside the loop of backward passes, at equal time, in one run.

``python -m pytest benchmarks/test_gradient_moments.py --benchmark-only -s`` prints the table, and writes it to the
file that ``$VBENCH_TABLE`` names. A ratio is (relative squared error of the measured tr Cov x seconds) of the loop
over that of the engine: how many times sooner the engine has the same interval. It counts everything that each
returns beside (means, squared means), on one thread, with blocks of both taken in turn. ``backward only`` holds the
engine against the loop's bare forward and backward passes, as if adding up were free. MNIST from ``$VBENCH_DATA``;
200-dimensional Bernoulli latents between linear layers, and Gaussian ones in 784-200-200-50, at initialisation (the
output bias at the data's mean) and after 500 steps.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from vbench import Batch, Estimator, Model, Rng, gradient_moments
from vbench.batches import Order, TrainingBatches, fixed_batches
from vbench.builtin.datasets.mnist import mnist
from vbench.builtin.datasets.tensors import TensorDataset
from vbench.builtin.decoders.bernoulli import BernoulliDecoder
from vbench.builtin.encoders.bernoulli import BernoulliEncoder
from vbench.builtin.encoders.gaussian import GaussianEncoder
from vbench.builtin.priors.bernoulli import BernoulliPrior
from vbench.builtin.priors.standard_normal import StandardNormalPrior
from vbench.estimators.dreg import dreg
from vbench.estimators.iwae import iwae
from vbench.estimators.reinforce import reinforce
from vbench.estimators.reparam import reparam
from vbench.estimators.rloo import rloo
from vbench.estimators.stl import stl
from vbench.estimators.vimco import vimco
from vbench.rng import derive

STEPS, BATCH, DRAWS, BLOCKS = 500, 100, 100, 5


class Case(NamedTuple):
    estimator: Callable[[], Estimator]
    model: str


def _disarm() -> Estimator:
    from vbench_discrete.disarm import Disarm

    return Disarm()


CASES = {
    "reparam": Case(reparam, "gaussian"),
    "stl": Case(stl, "gaussian"),
    "iwae[k=5]": Case(lambda: iwae(5), "gaussian"),
    "dreg[k=5]": Case(lambda: dreg(5), "gaussian"),
    "reinforce": Case(reinforce, "binary"),
    "rloo[k=4]": Case(lambda: rloo(4), "binary"),
    "vimco[k=5]": Case(lambda: vimco(5), "binary"),
    **({"disarm": Case(_disarm, "binary")} if find_spec("vbench_discrete") else {}),
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data() -> TensorDataset:
    if not (Path(os.environ.get("VBENCH_DATA", "")) / "mnist").is_dir():
        pytest.skip("needs MNIST: set VBENCH_DATA to the folder that holds mnist/")
    return mnist(binarization="static")


@pytest.fixture(scope="module")
def models(data: TensorDataset) -> dict[tuple[str, str], Model]:
    mean = data.train.float().mean(0) / 255

    def build(kind: str) -> Model:
        torch.manual_seed(0)
        if kind == "gaussian":
            gaussian = GaussianEncoder(data.x)
            return Model(gaussian, BernoulliDecoder(data.x, gaussian.z, mean), StandardNormalPrior(gaussian.z))
        binary = BernoulliEncoder(data.x, hidden=())
        return Model(binary, BernoulliDecoder(data.x, binary.z, mean, hidden=()), BernoulliPrior(binary.z))

    references = {"gaussian": reparam(), "binary": rloo(4)}
    found = {(kind, "initial"): build(kind) for kind in references}
    return found | {(kind, "trained"): _trained(build(kind), r, data) for kind, r in references.items()}


def _trained(model: Model, estimator: Estimator, data: TensorDataset) -> Model:
    optimizer, order = torch.optim.Adam(model.parameters(), 1e-3), Order(len(data.train), BATCH, 0)
    batches = TrainingBatches(data, STEPS, 0, order)
    for step in range(STEPS):
        estimate = estimator(model, batches[step], Rng(derive("noise", step)))
        optimizer.zero_grad()
        (-estimate.surrogate.mean()).backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def table():
    rows: list[str] = []
    yield rows
    heads = ("estimator", "parameters", "part", "at equal time", "backward only", "ms/draw loop", "ms/draw engine")
    text = "\n".join(["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads), *rows])
    print("\n" + text)
    if target := os.environ.get("VBENCH_TABLE"):
        Path(target).write_text(text + "\n")


def _bare(estimator: Estimator, model: Model, batch: Batch) -> float:
    """Median CPU seconds of a forward and backward pass and nothing else."""
    live, taken = [p for p in model.parameters() if p.requires_grad], []
    for i in range(30):
        start = time.process_time()
        torch.autograd.grad(estimator(model, batch, Rng(i)).surrogate.mean(), live)
        taken.append(time.process_time() - start)
    return statistics.median(taken)


@pytest.mark.parametrize("state", ["initial", "trained"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.benchmark(group="tr Cov of a minibatch gradient, 100 draws")
def test_engine_beside_loop(benchmark, data: TensorDataset, models, table: list[str], name: str, state: str) -> None:
    estimator, model = CASES[name].estimator(), models[CASES[name].model, state]
    batch = next(iter(fixed_batches(data, "train", BATCH, 7, count=1)))
    found = {"loop": [], "moments": []}

    def block(method: str) -> None:
        start = time.process_time()
        moments = gradient_moments(model, estimator, batch, draws=DRAWS, key=len(found[method]), method=method)
        found[method].append((moments, (time.process_time() - start) / moments.draws))

    block("loop")
    block("moments")
    for seen in found.values():
        seen.clear()
    for _ in range(BLOCKS):
        block("loop")
        block("moments")
    seconds = {method: statistics.median(s for _, s in seen) for method, seen in found.items()}
    bare = _bare(estimator, model, batch)
    for part in found["loop"][0][0].variance:
        # squared relative error of one draw, averaged over blocks
        error = {
            method: statistics.fmean(m.draws * (m.std_error[part] / m.variance[part]) ** 2 for m, _ in seen)
            for method, seen in found.items()
        }
        gain = error["loop"] / error["moments"]
        cells = (
            name,
            state,
            part,
            f"{gain * seconds['loop'] / seconds['moments']:.1f}",
            f"{gain * bare / seconds['moments']:.1f}",
            f"{1e3 * seconds['loop']:.1f}",
            f"{1e3 * seconds['moments']:.1f}",
        )
        table.append("| " + " | ".join(cells) + " |")
        benchmark.extra_info[f"{part} at equal time"] = cells[3]
    benchmark.pedantic(lambda: block("moments"), rounds=1)
