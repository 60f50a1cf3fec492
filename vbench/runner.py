"""One attempt at one cell: build, train, measure, commit. The only file with an optimiser."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vbench import checkpoints
from vbench.assemble import Built, build_choices
from vbench.batches import Order, training_batch
from vbench.grid import Cell, Train, cell_from_spec
from vbench.measure.schedule import evaluate, measure_gradients, missing
from vbench.measure.throughput import Stopwatch
from vbench.provenance import environment, provenance
from vbench.records import Outcome, Row, Store
from vbench.registry import load_registry, reason
from vbench.rng import Rng, derive
from vbench.types import Incompatible

__all__ = ["Assignment", "attempt"]

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Assignment:
    """What a worker must know to make one attempt; plain data, so that it crosses to another process or machine.

    Attributes:
        key: the cell's key, under which the attempt is committed.
        spec, labels: the cell (see :class:`vbench.grid.Cell`).
        study: results folder of the study.
        role: ``cell``, or ``reference`` for a run that only leaves checkpoints.
        reference: key of the reference run whose checkpoints the gradients are measured at; empty for the cell's own.
        device: where it runs.
    """

    key: str
    spec: Mapping[str, Any]
    labels: Mapping[str, str]
    study: str
    role: str = "cell"
    reference: str = ""
    device: str = "cpu"

    @property
    def store(self) -> Store:
        """Where the attempt is committed: references stand apart from the study's own cells."""
        folder = Path(self.study)
        return Store(folder if self.role == "cell" else folder / "references")

    @property
    def cell(self) -> Cell:
        """The cell itself."""
        return cell_from_spec(self.spec, self.labels)

    def outcome(self, status: str, reason: str, **rest: Any) -> Outcome:
        """What became of an attempt at it; ``rest`` are further fields of :class:`vbench.records.Outcome`."""
        rest = {"started": now()} | rest
        labels, spec = dict(self.labels), dict(self.spec)
        return Outcome(self.key, status, reason, labels, seed=self.spec["seed"], spec=spec, **rest)


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Diverged(Exception):  # noqa: N818 - an outcome, not a fault
    """Training left the finite numbers; says at which step and in what."""


@dataclass
class _Attempt:
    """What one attempt has gathered so far; whatever stops it, this much is committed."""

    assignment: Assignment
    cell: Cell
    rows: list[Row] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    started: str = field(default_factory=now)
    clock: float = field(default_factory=time.perf_counter)

    def commit(self, status: str, reason: str = "", trace: str = "") -> str:
        self.facts["seconds"] = time.perf_counter() - self.clock
        sources = provenance(self.cell.choices().values(), load_registry().catalogue())
        outcome = self.assignment.outcome(
            status,
            reason,
            facts=self.facts,
            provenance=sources | {"environment": environment(self.assignment.device)},
            traceback=trace,
            started=self.started,
        )
        self.assignment.store.commit(outcome, self.rows)
        return status


def attempt(assignment: Assignment, report: Report) -> str:
    """Run one cell (or reference run) and commit what came of it.

    Args:
        assignment: the cell and where its results go.
        report: called with (step, steps) as training goes on.

    Returns:
        The committed status: done, diverged, failed, oom or skipped.
    """
    cell = assignment.cell
    this = _Attempt(assignment, cell)
    try:
        built = build_choices(cell.choices(), cell.seed)
        _run(this, built, report)
    except Incompatible as error:
        return this.commit("skipped", str(error))
    except Diverged as error:
        return this.commit("diverged", str(error))
    except (MemoryError, torch.OutOfMemoryError) as error:
        return this.commit("oom", reason(error), traceback.format_exc())
    except Exception as error:
        status = "oom" if "DefaultCPUAllocator: can't allocate" in str(error) else "failed"
        return this.commit(status, reason(error), traceback.format_exc())
    return this.commit("done")


def _run(this: _Attempt, built: Built, report: Report) -> None:
    cell, device = this.cell, torch.device(this.assignment.device)
    model, estimator, data = built.model.to(device), built.estimator.to(device), built.data
    steps = cell.train.steps
    stops = frozenset(cell.measure.steps(steps))
    this.facts |= {
        "bound": repr(estimator.bound) if getattr(estimator, "bound", None) else "",
        "target": repr(estimator.target) if getattr(estimator, "target", None) else "",
        "rule": type(estimator).__name__,
        "unbiased": bool(estimator.unbiased),
        "binarization": data.binarization,
        "k": estimator.k,
        "evaluations_per_step": getattr(estimator, "evaluations", estimator.k),
        "skipped_measures": "; ".join(f"{name} {reason}" for name, reason in missing(built).items()),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    watch = Stopwatch(device)
    if this.assignment.role == "reference":
        checkpoints.store(Path(this.assignment.study), this.assignment.key, 0, model)
    for step, bounds in _train(this, built, watch, stops, report):
        mean, error = _mean(bounds)
        this.rows.append(Row(step, "train", "bound", "all", mean, error, len(bounds), "nats"))
        if this.assignment.role == "reference":
            checkpoints.store(Path(this.assignment.study), this.assignment.key, step, model)
            continue
        with _evaluating(model, estimator):
            this.rows += evaluate(built, cell, step, last=step == steps, device=device)
        if cell.measure.gradients and cell.measure.gradients.at == "own":
            this.rows += measure_gradients(built, cell, step, device)
    this.facts |= {
        "evaluations": steps * min(cell.train.batch, len(data.train)) * this.facts["evaluations_per_step"],
        "backward_passes": steps,
    }
    if this.assignment.role == "cell":
        this.rows += [Row(steps, "train", *m) for m in watch.measurements(cell.train.batch)]
        if cell.measure.gradients and cell.measure.gradients.at == "shared":
            _measure_at_reference(this, device)


def _train(
    this: _Attempt, built: Built, watch: Stopwatch, stops: frozenset[int], report: Report
) -> Iterator[tuple[int, list[float]]]:
    """Train; yield (step, the objective at each step since the last stop) wherever something is to be measured."""
    model, estimator, data = built.model, built.estimator, built.data
    cell, device = this.cell, torch.device(this.assignment.device)
    settings, steps = cell.train, cell.train.steps
    optimizer = _optimizer(settings, model, estimator)
    everything = [p for group in optimizer.param_groups for p in group["params"]]
    order = Order(len(data.train), settings.batch, derive("order", cell.seed))
    stream = derive("data", cell.seed)
    bounds: list[float] = []
    watch.start()
    for step in range(steps):
        batch = training_batch(data, step, steps, stream, order, device=device)
        estimate = estimator(model, batch, Rng(derive("noise", cell.seed, step), device))
        optimizer.zero_grad(set_to_none=True)
        loss: Tensor = -estimate.surrogate.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        if settings.clip is not None:
            nn.utils.clip_grad_norm_(everything, settings.clip)
        optimizer.step()
        bounds.append(float(estimate.value.mean()))
        if not abs(bounds[-1]) < float("inf"):  # also true of NaN
            raise Diverged(f"step {step + 1}: the objective is {bounds[-1]}{_culprit(model)}")
        watch.tick()
        if (step + 1) % 20 == 0:
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


def _culprit(model: nn.Module) -> str:
    """Names the first parameter that is not finite."""
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return f": parameter {name} is not finite"
    return ""


def _optimizer(settings: Train, model: nn.Module, estimator: nn.Module) -> torch.optim.Optimizer:
    kinds: dict[str, Any] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
        "sgd": torch.optim.SGD,
    }
    groups: list[dict[str, Any]] = [{"params": [p for p in model.parameters() if p.requires_grad]}]
    own = [p for p in estimator.parameters() if p.requires_grad]
    if own:
        groups.append({"params": own, "lr": getattr(estimator, "lr", None) or settings.lr})
    fused = {} if settings.optimizer == "rmsprop" else {"fused": True}
    optimizer: torch.optim.Optimizer = kinds[settings.optimizer](
        [g for g in groups if g["params"]], lr=settings.lr, **fused
    )
    return optimizer


@contextlib.contextmanager
def _evaluating(*modules: nn.Module) -> Iterator[None]:
    modes = [module.training for module in modules]
    for module in modules:
        module.eval()
    yield
    for module, mode in zip(modules, modes, strict=True):
        module.train(mode)


def _mean(values: list[float]) -> tuple[float, float | None]:
    """Mean and its standard error."""
    tensor = torch.tensor(values, dtype=torch.float64)
    error = float(tensor.std() / len(values) ** 0.5) if len(values) > 1 else None
    return float(tensor.mean()), error


def _measure_at_reference(this: _Attempt, device: torch.device) -> None:
    """Gradients at the frozen checkpoints of the reference run, with a fresh estimator warmed up at each."""
    wanted = {0, *this.cell.measure.steps(this.cell.train.steps)}
    found = (
        checkpoints.load(Path(this.assignment.study), this.assignment.reference) if this.assignment.reference else ()
    )
    for step, tensors in found:
        built = build_choices(this.cell.choices(), this.cell.seed)
        built.model.load_state_dict(tensors)
        built.model.to(device)
        built.estimator.to(device)
        this.rows += measure_gradients(built, this.cell, step, device, warm_up=True)
        wanted.discard(step)
    if wanted:
        which = "fits these parts" if not this.assignment.reference else f"left checkpoints at {sorted(wanted)}"
        skipped = [this.facts["skipped_measures"], f"gradients at shared checkpoints: no reference run {which}"]
        this.facts["skipped_measures"] = "; ".join(filter(None, skipped))
