"""One attempt at one cell: build, train, measure, commit."""

from __future__ import annotations

import contextlib
import io
import sys
import time
import traceback
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vbench import checkpoints, kept
from vbench.assemble import Built, build_choices
from vbench.assignment import Assignment, now
from vbench.batches import fixed_batches, noticed_progress
from vbench.beside import use
from vbench.course import PATIENT, Course, no_better
from vbench.grid import EXACT_TARGETS, Cell, Gradients, parse_choice
from vbench.listing import known_catalogue, learn
from vbench.measure.evaluations import decoder_evaluations
from vbench.measure.schedule import evaluate, measure_gradients, missing
from vbench.measure.throughput import Stopwatch
from vbench.once import Once
from vbench.provenance import environment, provenance
from vbench.records import Row, wrong
from vbench.registry import reason
from vbench.resume import Points
from vbench.rng import derive
from vbench.training import Diverged, train
from vbench.types import Incompatible

__all__ = ["attempt"]

Report = Callable[[int, int], None]
_ELSEWHERE = " (another run may end at another step)"


@dataclass
class _Attempt:
    """What one attempt has gathered so far; whatever stops it, this much is committed."""

    assignment: Assignment
    cell: Cell
    rows: list[Row] = field(default_factory=list)
    values: dict[str, torch.Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    missed: set[str] = field(default_factory=set)
    started: str = field(default_factory=now)
    clock: float = field(default_factory=time.perf_counter)
    points: Points = field(default_factory=Points)
    once: Once | None = None
    paced: Callable[[], bool] = bool  # whether training has asked how far it is
    asked: list[float] = field(default_factory=list)  # decoder evaluations of an estimate, counted at each stop

    def __post_init__(self) -> None:
        # before any plugin is imported: code that changes meanwhile must not pass for what ran
        sources = provenance(self.cell.choices().values(), known_catalogue())
        self.provenance = sources | {"environment": environment(self.assignment.device)}

    def commit(self, status: str, reason: str = "", trace: str = "") -> str:
        if not self.assignment.held:
            print("vbench: another run has taken this cell over: nothing is kept", file=sys.stderr)
            return "interrupted"
        self.facts["seconds"] = time.perf_counter() - self.clock
        problems = [problem for row in self.rows if (problem := wrong(row))]
        if problems:
            self.rows = [row for row in self.rows if not wrong(row)]
            status, reason = "failed", reason or problems[0]
        outcome = self.assignment.outcome(
            status,
            reason,
            facts=self.facts,
            provenance=self.provenance,
            traceback=trace,
            started=self.started,
        )
        shown = {name: _png(each) for name, each in self.values.items() if each.ndim == 2}
        values = {name: each.tolist() for name, each in self.values.items() if name not in shown}
        self.assignment.store.commit(outcome, self.rows, values, shown)
        if status != "oom":  # which may go better with more memory
            self.points.remove()
        return status


def attempt(assignment: Assignment, report: Report) -> str:
    """Run one cell (or reference run) and commit what came of it.

    Args:
        assignment: the cell and where its results go.
        report: called with (step, steps) as training goes on.

    Returns:
        The committed status: done, diverged, failed, oom or skipped.
    """
    use(assignment.beside)
    if assignment.components:
        learn(assignment.components)
    cell = assignment.cell
    this = _Attempt(assignment, cell)
    try:
        this.once = _once(assignment, cell)
        built = build_choices(cell.choices(), cell.seed)
        if assignment.data not in ("", built.data.digest):
            return this.commit("failed", "its data changed after the run was planned: run it again")
        _run(this, built, report)
    except Incompatible as error:
        return this.commit("skipped", str(error))
    except Diverged as error:
        return this.commit("diverged", str(error))
    except (MemoryError, torch.OutOfMemoryError) as error:
        return this.commit("oom", reason(error), traceback.format_exc())
    except Exception as error:
        status = "oom" if "DefaultCPUAllocator: can't allocate" in str(error) else "failed"
        if assignment.debug:
            _debug(error)
        return this.commit(status, reason(error), traceback.format_exc())
    return this.commit("done")


def _png(grey: Tensor) -> bytes:
    """A picture ``[H, W]`` of bytes as a file."""
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(grey.numpy()).save(sink, "PNG", optimize=True)
    return sink.getvalue()


def _once(assignment: Assignment, cell: Cell) -> Once | None:
    """For a target that is drawn, which all cells of one reference run share; by the code before any of it runs."""
    gradients = cell.measure.gradients
    if not assignment.reference or not gradients or gradients.target in (None, *EXACT_TARGETS):
        return None
    catalogue = known_catalogue()
    target = parse_choice(gradients.target, "estimator", catalogue, "measure.gradients.target")
    sources = provenance({**cell.choices(), "estimator": target}.values(), catalogue)
    return Once(Path(assignment.study), sources | {"environment": environment(assignment.device)})


def _debug(error: Exception) -> None:
    import pdb

    traceback.print_exc()
    pdb.post_mortem(error.__traceback__)


def _points(this: _Attempt, watch: Stopwatch, course: Course) -> Points:
    """Where training goes on from; what had been measured until there is put back."""
    assignment = this.assignment
    path = assignment.store.folder / "resume" / f"{assignment.key}.safetensors"

    before: dict[str, Any] = {}

    def notes() -> dict[str, Any]:
        paced = before.get("paced", False) or this.paced()
        seconds = time.perf_counter() - this.clock
        return {
            **{"rows": this.rows, "blocks": watch.all_blocks, "seconds": seconds, "paced": paced, "asked": this.asked},
            "course": course.notes(),
        }

    def leave(tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        try:
            this.facts["kept"] = kept.save(Path(assignment.study), assignment.key, assignment.keep, tensors, notes)
        except (OSError, TypeError, ValueError) as problem:  # its numbers are none the worse for it
            print(f"vbench: its {assignment.keep} cannot be kept: {problem}", file=sys.stderr)

    points = Points(
        path,
        assignment.checkpoint,
        {"key": assignment.key, **this.provenance},
        notes,
        start=kept.folder(Path(assignment.study)) / assignment.start if assignment.start else None,
        leave=leave if assignment.keep else None,
    )
    points.heed()
    found = points.load()
    if assignment.start and not points.step:
        print("vbench: begins anew: the state of the shorter run is damaged, or of other code or another environment")
    if found:
        before.update(found)
        this.rows += [Row(*row) for row in found["rows"]]
        watch.blocks += [(seconds, steps) for seconds, steps in found["blocks"]]
        this.clock -= found["seconds"]
        this.asked += found["asked"]
        this.facts["continued_after" if points.continued else "resumed_after"] = points.step
    return points


def _run(this: _Attempt, built: Built, report: Report) -> None:
    cell, device = this.cell, torch.device(this.assignment.device)
    model, estimator, data = built.model.to(device), built.estimator.to(device), built.data
    every = cell.measure.every
    stops: Container[int] = range(every, sys.maxsize, every) if every else ()
    if this.assignment.role == "reference" and cell.measure.gradients:
        stops = frozenset(cell.measure.gradients.checkpoints)
    without = missing(built, cell.measure)
    if cell.train.patience and ("elbo" in without or not len(data.valid)):
        why = without.get("elbo", "needs validation data, and there are none")
        raise Incompatible(f"train.patience looks at the validation ELBO, which {why}")
    size = min(cell.train.batch, len(data.train))
    this.facts |= {
        "bound": repr(estimator.bound) if getattr(estimator, "bound", None) else "",
        "target": repr(estimator.target) if getattr(estimator, "target", None) else "",
        "rule": type(estimator).__name__,
        "unbiased": bool(estimator.unbiased),
        "binarization": data.binarization,
        "data_digest": data.digest,
        "data_notes": getattr(data, "notes", ""),
        "k": estimator.k,
        "evaluations_per_step": getattr(estimator, "evaluations", estimator.k),
        "skipped_measures": "; ".join(f"{name} {reason}" for name, reason in without.items()),
        "timing": this.assignment.timing,
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    watch = Stopwatch(device)
    if this.assignment.role == "reference":
        checkpoints.store(Path(this.assignment.study), this.assignment.key, 0, model)
    course = Course(cell.train, size, lambda: watch.elapsed)
    if cell.train.budget and cell.train.budget.evaluations:
        course.price = _evaluations(built, cell, device)
    this.points = _points(this, watch, course)
    with noticed_progress() as this.paced:
        for step, bounds in train(built, cell.train, cell.seed, stops, watch, report, this.points, course):
            mean, error = _mean(bounds)
            this.rows.append(Row(step, "train", "bound", "all", mean, error, len(bounds), "nats"))
            if this.assignment.role == "reference":
                checkpoints.store(Path(this.assignment.study), this.assignment.key, step, model)
                continue
            course.price = _evaluations(built, cell, device)
            this.asked.append(course.price)
            with _evaluating(model, estimator):
                rows = evaluate(built, cell, step, last=bool(course.ended_by), device=device, kept=this.values)
                if not course.ended_by and no_better([*this.rows, *rows], cell.train.patience):
                    course.ended_by = PATIENT
                    rows = evaluate(built, cell, step, last=True, device=device, kept=this.values)
            this.rows += rows
            if cell.measure.gradients and cell.measure.gradients.at == "own":
                this.rows += measure_gradients(built, cell, step, device, this.missed)
        this.facts["paced"] = this.points.notes().get("paced", False)
    if this.asked:
        this.facts["evaluations_per_step"] = sum(this.asked) / len(this.asked)
    spent = cell.train.budget and cell.train.budget.evaluations and course.spent
    this.facts |= {
        "evaluations": spent or course.updates * size * this.facts["evaluations_per_step"],
        "backward_passes": course.updates,
        "ended_after": course.step,
        "ended_by": course.ended_by + _ELSEWHERE * (course.ended_by == "seconds"),
    }
    if this.assignment.role == "cell":
        this.rows += [m.row(course.step, "train") for m in watch.measurements(cell.train.batch)]
        if cell.measure.gradients and cell.measure.gradients.at == "shared":
            _measure_at_reference(this, device, report)
    this.facts["skipped_measures"] = "; ".join(filter(None, [this.facts["skipped_measures"], *sorted(this.missed)]))


def _evaluations(built: Built, cell: Cell, device: torch.device) -> float:
    """The decoder's, per datum of a training step; an encoder's own are among them."""
    key = derive("evaluations", cell.seed)
    batch = next(fixed_batches(built.data, "train", cell.train.batch, key, count=1, device=device))
    return decoder_evaluations(built.model, built.estimator, batch, key)


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


def _measure_at_reference(this: _Attempt, device: torch.device, report: Report) -> None:
    """Gradients at the frozen checkpoints of the reference run, with a fresh estimator warmed up at each."""
    settings: Gradients = this.cell.measure.gradients  # type: ignore[assignment]
    wanted = set(settings.checkpoints)
    found = (
        checkpoints.load(Path(this.assignment.study), this.assignment.reference) if this.assignment.reference else ()
    )
    for number, (step, tensors) in enumerate(found, 1):
        built = build_choices(this.cell.choices(), this.cell.seed)
        built.model.load_state_dict(tensors)
        built.model.to(device)
        built.estimator.to(device)
        this.rows += measure_gradients(built, this.cell, step, device, this.missed, warm_up=True, once=this.once)
        wanted.discard(step)
        if not this.cell.train.steps:  # else the steps of training are what is told
            report(number, len(settings.checkpoints))
    if wanted:
        which = "fits these parts" if not this.assignment.reference else f"left checkpoints at {sorted(wanted)}"
        this.missed.add(f"gradients at shared checkpoints: no reference run {which}")
