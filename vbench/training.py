"""The training loop: batches, gradients, steps. No measure, no record."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence

import torch
from torch import Tensor, nn

from vbench.assemble import Built
from vbench.batches import Order, TrainingBatches
from vbench.grid import Train
from vbench.measure.throughput import Stopwatch
from vbench.optimizers import OPTIMIZERS, Group
from vbench.rng import Rng, derive
from vbench.types import Dataset, Incompatible

__all__ = ["Diverged", "train"]

_REPORTED = 20  # steps


class Diverged(Exception):  # noqa: N818 - an outcome, not a fault
    """Training left the finite numbers; says at which step and in what."""


def train(
    built: Built,
    settings: Train,
    seed: int,
    stops: Container[int],
    watch: Stopwatch,
    report: Callable[[int, int], None],
) -> Iterator[tuple[int, list[float]]]:
    """Train; pause wherever something is to be measured. What happens at a step is a function of (seed, step).

    Args:
        built: what is trained, and on what; on the device of ``watch``.
        settings: steps, batch size, optimiser.
        seed: of order, binarisation and noise.
        stops: the steps after which to pause.
        watch: runs while training does.
        report: called with (step, steps) now and then.

    Yields:
        (step, the objective at each step since the last stop).

    Raises:
        Diverged: the objective, or at a stop a parameter, is not finite.
        Incompatible: an inner loop over a part that has nothing to train, or is all that has.
    """
    model, estimator, data = built.model, built.estimator, built.data
    steps, device = settings.steps, watch.device
    groups = _groups(settings, model, estimator)
    optimizer = OPTIMIZERS[settings.optimizer](groups)
    everything = [p for group in groups for p in group.params]

    def move(surrogate: Tensor, inputs: Sequence[nn.Parameter] | None = None) -> None:
        for parameter in everything:  # a torch optimiser's own way takes five times as long
            parameter.grad = None
        _ascend(surrogate, inputs)
        if settings.clip is not None:
            nn.utils.clip_grad_norm_(everything, settings.clip)
        optimizer.step()

    order = Order(len(data.train), settings.batch, derive("order", seed))
    batches = TrainingBatches(data, steps, derive("data", seed), order, device)
    alone, rest = _divided(settings, model, estimator)
    others = _others(settings, data, seed, device)
    bounds: list[float] = []
    watch.start()
    for step in range(steps):
        looped = settings.inner if step < settings.looped else None
        for inner in range(looped.steps if looped else 0):
            batch = others[step * looped.steps + inner] if others else batches[step]  # type: ignore[union-attr]
            move(estimator(model, batch, Rng(derive("inner noise", seed, step, inner), device)).surrogate, alone)
        estimate = estimator(model, batches[step], Rng(derive("noise", seed, step), device))
        move(estimate.surrogate, rest if looped else None)
        bounds.append(float(estimate.value.mean()))
        if not abs(bounds[-1]) < float("inf"):  # also true of NaN
            raise Diverged(f"step {step + 1}: the objective is {bounds[-1]}{_culprit(model)}")
        watch.tick()
        if (step + 1) % _REPORTED == 0:
            report(step + 1, steps)
        if step + 1 in stops:
            watch.stop()
            if culprit := _culprit(model):
                raise Diverged(f"step {step + 1}{culprit}")
            report(step + 1, steps)
            yield step + 1, bounds
            bounds = []
            watch.start()
    watch.stop()


def _groups(settings: Train, model: nn.Module, estimator: nn.Module) -> list[Group]:
    """What is trained: the model, and what the estimator adapts at a learning rate of its own."""
    rates = ((model, settings.lr), (estimator, getattr(estimator, "lr", None) or settings.lr))
    groups = [Group([p for p in module.parameters() if p.requires_grad], lr) for module, lr in rates]
    return [group for group in groups if group.params]


def _divided(
    settings: Train, model: nn.Module, estimator: nn.Module
) -> tuple[list[nn.Parameter] | None, list[nn.Parameter] | None]:
    """What an inner loop moves, and what the step after it does; what the estimator adapts moves in both."""
    if settings.inner is None:
        return None, None
    own = set(model.get_submodule(settings.inner.part).parameters())
    parts = [[p for p in model.parameters() if p.requires_grad and (p in own) is inside] for inside in (True, False)]
    for found, which in zip(parts, ("the", "all but the"), strict=True):
        if not found:
            part = settings.inner.part
            raise Incompatible(f"train.inner loops over the {part}, and {which} {part} has nothing to train")
    adapted = [p for p in estimator.parameters() if p.requires_grad]
    return parts[0] + adapted, parts[1] + adapted


def _others(settings: Train, data: Dataset, seed: int, device: torch.device) -> TrainingBatches | None:
    """Fresh batches for inner loops, as many as they have steps; None where they stay on the step's own."""
    if settings.inner is None or settings.inner.batches == "same":
        return None
    order = Order(len(data.train), settings.batch, derive("inner order", seed))
    return TrainingBatches(data, settings.steps * settings.inner.steps, derive("inner data", seed), order, device)


def _ascend(surrogate: Tensor, inputs: Sequence[nn.Parameter] | None) -> None:
    """Gradients of minus the surrogate's mean, so that descending them ascends it; in ``inputs`` alone, or in all."""
    torch.autograd.backward(surrogate, torch.full_like(surrogate, -1 / surrogate.numel()), inputs=inputs)


def _culprit(model: nn.Module) -> str:
    """Names the first parameter that is not finite."""
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return f": parameter {name} is not finite"
    return ""
