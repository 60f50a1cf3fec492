"""The training loop: batches, gradients, steps. No measure, no record."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vbench.assemble import Built
from vbench.batches import Order, TrainingBatches
from vbench.course import Course, unmet
from vbench.grid import Train
from vbench.measure.throughput import Stopwatch
from vbench.optimizers import OPTIMIZERS, Group, schedule
from vbench.resume import Points
from vbench.rng import Rng, derive
from vbench.types import Batch, Dataset, Incompatible, Natural

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
    points: Points | None = None,
    course: Course | None = None,
) -> Iterator[tuple[int, list[float]]]:
    """Train; pause wherever something is to be measured. What happens at a step is a function of (seed, step).

    Args:
        built: what is trained, and on what; on the device of ``watch``.
        settings: batch size, optimiser, inner loop.
        seed: of order, binarisation and noise.
        stops: the steps after which to pause; it does so at the end too.
        watch: runs while training does.
        report: called with (step, steps) now and then.
        points: where to go on from, and to save where that would be.
        course: tells when it is over; None: as ``settings`` say. Whoever measures may end it at a pause.

    Yields:
        (step, the objective at each step since the last stop).

    Raises:
        Diverged: the objective, or at a stop a parameter, is not finite.
        Incompatible: these settings ask what the parts do not offer.
    """
    model, estimator, data = built.model, built.estimator, built.data
    device, course = watch.device, course or Course(settings, seconds=lambda: watch.elapsed)
    if why := unmet(settings, built.offers):
        raise Incompatible(why)
    natural: Any = model.encoder if settings.optimizer == "natural-gradient" else None
    groups = _groups(settings, model, estimator, natural)
    optimizer = OPTIMIZERS[settings.optimizer](groups)
    everything = [p for group in groups for p in group.params]

    def pull(surrogate: Tensor, size: int, inputs: Sequence[nn.Parameter] | None = None) -> None:
        for parameter in everything:  # a torch optimiser's own way takes five times as long
            parameter.grad = None
        _ascend(surrogate, inputs)
        if settings.clip is not None:
            nn.utils.clip_grad_norm_(everything, settings.clip)
        if natural:
            _turn(natural, size)

    order = Order(len(data.train), settings.batch, derive("order", seed))
    batches = TrainingBatches(data, settings.steps, derive("data", seed), order, device)
    alone, rest = _divided(settings, model, estimator)
    others = _others(settings, data, seed, device)
    modules = {"model": model, "estimator": estimator}
    points = points or Points()

    def taken(source: TrainingBatches, number: int) -> Batch:
        batch = source[number]
        return batch if settings.budget is None else batch._replace(progress=course.share)

    points.restore(modules, optimizer, everything)
    bounds = points.bounds
    if points.step:
        course.restore(points.step, points.course)
    left = bool(course.ended_by and points.step)
    if left:
        points.finish(points.step, bounds, modules, optimizer, everything)
    if points.step and (points.step in stops or course.ended_by):  # saved before it was measured there
        yield points.step, bounds
        bounds = []
    watch.start()
    points.training = True
    while not course.ended_by:
        step, looped = course.step, course.inner
        batch = taken(batches, step)
        optimizer.factor = schedule(settings, step, course.share)
        for inner in range(looped.steps if looped else 0):
            some = taken(others, step * looped.steps + inner) if others else batch  # type: ignore[union-attr]
            pull(
                estimator(model, some, Rng(derive("inner noise", seed, step, inner), device)).surrogate,
                len(some.x),
                alone,
            )
            optimizer.step()
        estimate = estimator(model, batch, Rng(derive("noise", seed, step), device))
        if step == points.step:  # the first one of this process
            _check(estimate, len(batch.x), type(estimator).__name__)
        pull(estimate.surrogate, len(batch.x), rest if looped else None)
        bounds.append(float(estimate.value.mean()))
        if not abs(bounds[-1]) < float("inf"):  # also true of NaN
            if culprit := _culprit(modules):
                raise Diverged(f"step {step}{culprit}")
            raise Diverged(f"step {step + 1}: the objective is {bounds[-1]}")
        optimizer.step()
        watch.tick()
        course.advance(1 + (looped.steps if looped else 0))
        left = bool(course.ended_by)
        pause = step + 1 in stops or left
        if pause or (step + 1) % _REPORTED == 0:
            report(step + 1, course.steps)
        if pause:
            watch.stop()
            if culprit := _culprit(modules):
                raise Diverged(f"step {step + 1}{culprit}")
        if left:
            points.finish(step + 1, bounds, modules, optimizer, everything)
        points.keep(step + 1, bounds, modules, optimizer, everything)
        if pause:
            points.training = False
            yield step + 1, bounds
            bounds = []
            points.training = True
            watch.start()
    points.training = False
    watch.stop()
    if course.step and not left:  # it was ended by what was measured
        points.finish(course.step, bounds, modules, optimizer, everything)


def _groups(settings: Train, model: nn.Module, estimator: nn.Module, natural: Natural | None = None) -> list[Group]:
    """What is trained: the model, and what the estimator adapts at a learning rate of its own.

    What moves along natural gradients stands before all others.
    """
    first = list(natural.fisher()) if natural else []
    own = {id(p) for p in first}
    rates = ((model, settings.lr), (estimator, getattr(estimator, "lr", None) or settings.lr))
    groups = [
        Group([p for p in module.parameters() if p.requires_grad and id(p) not in own], lr) for module, lr in rates
    ]
    return [*([Group(first, natural.natural_step)] if natural else []), *(group for group in groups if group.params)]


@torch.no_grad()
def _turn(natural: Natural, size: int) -> None:
    """Make natural gradients of the encoder's: a bound is a mean over data, each of which has its own posterior."""
    for parameter, fisher in natural.fisher().items():
        if parameter.grad is not None:
            parameter.grad.mul_(size / fisher)


def _divided(
    settings: Train, model: nn.Module, estimator: nn.Module
) -> tuple[list[nn.Parameter] | None, list[nn.Parameter] | None]:
    """What an inner loop moves, and what the step after it does; what the estimator adapts moves in both."""
    if settings.inner is None:
        return None, None
    own = set(model.get_submodule(settings.inner.part).parameters())
    parts = [[p for p in model.parameters() if p.requires_grad and (p in own) is inside] for inside in (True, False)]
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


def _check(estimate: Any, size: int, name: str) -> None:
    """Tell an estimator's author what it should have returned, rather than where torch stumbles over it.

    Raises:
        TypeError: it is no estimate of so many data.
    """
    for field, shapes in {"value": ([size],), "surrogate": ([size], [])}.items():
        found = getattr(estimate, field, None)
        if not isinstance(found, Tensor):
            kind = type(found if hasattr(estimate, field) else estimate).__name__
            raise TypeError(f"estimator {name}: expected {field} to be a tensor of an Estimate, not {kind}")
        if not found.is_floating_point() or list(found.shape) not in shapes:
            wanted = " or ".join(map(str, shapes))
            what = f"{list(found.shape)} of {found.dtype}"
            raise TypeError(f"estimator {name}: expected {field} to be floats of shape {wanted}, not {what}")
    if not estimate.surrogate.requires_grad:
        raise TypeError(f"estimator {name}: no gradient flows through its surrogate")


def _culprit(modules: Mapping[str, nn.Module]) -> str:
    """Names the first parameter that is not finite."""
    for owner, module in modules.items():
        for name, parameter in module.named_parameters():
            if not parameter.isfinite().all():
                return f": parameter {name if owner == 'model' else f'{owner}.{name}'} is not finite"
    return ""
