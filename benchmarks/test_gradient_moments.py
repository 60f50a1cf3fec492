"""The moments engine beside the loop of backward passes, at equal time, in one run.

A ratio is (squared relative error of the measured tr Cov x seconds) of the loop over that of the engine: how many times
sooner the engine has the same interval. It counts everything that each returns beside (means, squared means), in CPU
seconds of one thread, so that others on the machine disturb it less. MNIST from ``$VBENCH_DATA``; 200 Bernoulli
latents between linear layers, and 50 Gaussian ones in 784-200-200-50, at initialisation (the output bias at the data's
mean) and after 500 steps.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from benchmarks import loops, pairs
from vbench import Estimator, Model, Rng, gradient_moments
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

STEPS, BATCH, DRAWS, BLOCKS = 500, 100, 100, 3
SINGLE = ("reparam", "stl", "reinforce")  # one sample of a datum


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


@pytest.fixture(scope="module")
def data() -> TensorDataset:
    if not (Path(os.environ.get("VBENCH_DATA", "")) / "mnist").is_dir():
        pytest.skip("needs MNIST: set VBENCH_DATA to the folder that holds mnist/")
    return mnist(binarization="fixed")


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


def _wanted(name: str, part: str) -> float:
    """What the engine is to reach: never less than the loop."""
    least = {("reparam", "encoder"): 3.0, ("reinforce", "encoder"): 20.0}.get((name, part), 1.0)
    return 10.0 if part == "all" and name in SINGLE else least


@pytest.mark.parametrize("state", ["initial", "trained"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.benchmark(group="tr Cov of a minibatch gradient, 100 draws")
def test_engine_beside_loop(benchmark, note, data: TensorDataset, models, name: str, state: str) -> None:
    estimator, model = CASES[name].estimator(), models[CASES[name].model, state]
    batch = next(iter(fixed_batches(data, "train", BATCH, 7, count=1)))
    products, operations = loops.matrix_products(loops.MNIST)
    work: dict[str, list[dict[str, float]]] = {"loop": [], "moments": []}  # squared relative error x seconds
    seconds: dict[str, list[float]] = {"loop": [], "moments": [], "products": []}  # of a draw

    def block(draws: int, key: int) -> None:
        for method in work:
            start = time.process_time()
            found = gradient_moments(model, estimator, batch, draws=draws, key=key, method=method)
            each = (time.process_time() - start) / found.draws
            error = {part: found.draws * (found.std_error[part] / v) ** 2 for part, v in found.variance.items()}
            seconds[method].append(each)
            work[method].append({part: each * e for part, e in error.items()})
        start = time.process_time()
        products()
        seconds["products"].append(time.process_time() - start)

    keys = iter(range(1 + BLOCKS))
    benchmark.pedantic(lambda: block(DRAWS, next(keys)), rounds=BLOCKS, warmup_rounds=1)
    typical = {what: sorted(values[1:])[BLOCKS // 2] for what, values in seconds.items()}
    for part in work["loop"][0]:
        loop, moments = ([taken[part] for taken in work[method][1:]] for method in ("loop", "moments"))
        middle, low, high = pairs.ratio(loop, moments)
        note(
            pairs.Row(
                f"tr Cov of {part}, {name}, {CASES[name].model} latents, {state}",
                "moments",
                "loop",
                f"{middle:.3g} ({low:.3g} to {high:.3g})",
                f"{_wanted(name, part):.2f}",
                f"{pairs.duration(typical['moments'])} a draw",
                f"{pairs.duration(typical['loop'])} a draw",
                f"{operations / typical['products'] / 1e9:.0f} GFLOP/s",
            )
        )
        benchmark.extra_info[f"{part} at equal time"] = middle
