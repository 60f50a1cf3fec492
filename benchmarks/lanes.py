"""Several seeds of one cell in one vmapped step: what it would gain, and whether it would change a result.

Vbench does not train this way: see README.md. The forward pass runs under ``torch.func.vmap`` over stacked parameters,
the backward pass is autograd's own on the stacked tensors, and the optimiser sees one tensor for all seeds. A matrix
product of one lane takes another path than that of several, so a lone seed runs beside itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import vmap

from benchmarks.loops import BATCH, LR, STEPS, Task
from vbench import Batch, Estimator, Rng
from vbench.batches import Order, TrainingBatches
from vbench.model import Model, rebuilt
from vbench.optimizers import Adam, Group
from vbench.rng import derive


class _Slots:
    """The places of a model's parameters and buffers, parameters first."""

    def __init__(self, model: Model) -> None:
        self.model = rebuilt(model, lambda tensor: tensor)
        modules = [*self.model.modules()]
        self.places = [(m._parameters, name) for m in modules for name in m._parameters]
        self.parameters = len(self.places)
        self.places += [(m._buffers, name) for m in modules for name in m._buffers]

    def values(self) -> list[Tensor]:
        return [tensors[name].detach() for tensors, name in self.places]

    def fill(self, values: Sequence[Tensor]) -> Model:
        for (tensors, name), value in zip(self.places, values, strict=True):
            tensors[name] = value
        return self.model


class Lanes:
    """Seeds trained together."""

    def __init__(self, task: Task, estimator: Estimator, seeds: Sequence[int]) -> None:
        self.seeds = list(seeds) if len(seeds) > 1 else list(seeds) * 2
        slots = [_Slots(task.model(seed)) for seed in self.seeds]
        stacked = [torch.stack(tensors) for tensors in zip(*(one.values() for one in slots), strict=True)]
        self.parameters = [nn.Parameter(tensor) for tensor in stacked[: slots[0].parameters]]
        self._buffers = stacked[slots[0].parameters :]
        self._optimizer = Adam([Group(self.parameters, LR)])
        data = task.data()
        self._batches = [
            TrainingBatches(data, 10**9, derive("data", seed), Order(task.rows, BATCH, derive("order", seed)))
            for seed in self.seeds
        ]
        self._step = 0

        def lane(values: Sequence[Tensor], x: Tensor, index: Tensor, key: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
            return estimator(slots[0].fill(values), Batch(x, index, 0.0, None, key), Rng(noise))[:2]

        self._lanes = vmap(lane, randomness="error")

    def __call__(self) -> None:
        """Train ``STEPS`` steps of every seed."""
        for step in range(self._step, self._step + STEPS):
            batches = [one[step] for one in self._batches]
            noise = torch.tensor([derive("noise", seed, step) for seed in self.seeds])
            x, index, key = (torch.stack([getattr(b, name) for b in batches]) for name in ("x", "index", "key"))
            value, surrogate = self._lanes([*self.parameters, *self._buffers], x, index, key, noise)
            for parameter in self.parameters:
                parameter.grad = None
            torch.autograd.backward(surrogate, torch.full_like(surrogate, -1 / BATCH))
            self._optimizer.step()
            value.mean(1).tolist()
        self._step += STEPS

    def of(self, seed: int) -> list[Tensor]:
        """The parameters of one seed."""
        return [parameter[self.seeds.index(seed)].detach() for parameter in self.parameters]


def differing(task: Task, estimator: Estimator, groups: Sequence[Sequence[int]], calls: int = 2) -> list[str]:
    """The groups in which seed 0 comes to other bits than alone."""
    alone, differing = Lanes(task, estimator, [0]), []
    for _ in range(calls):
        alone()
    for group in groups:
        lanes = Lanes(task, estimator, group)
        for _ in range(calls):
            lanes()
        if not all(map(torch.equal, lanes.of(0), alone.of(0))):
            differing.append(f"place {list(group).index(0) + 1} of {len(group)}")
    return differing
