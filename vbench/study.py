"""Doing what a plan says, and what came of it."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vbench.assignment import Assignment
from vbench.catalogue import Catalogue, Component
from vbench.claims import Claims
from vbench.execute.asked import executor_named, make_executor
from vbench.execute.jobs import Event, Executor, ExecutorError, Job, Limits, Wait
from vbench.grid import Cell, Grid, GridError
from vbench.grid.choices import parse_text
from vbench.listing import known_catalogue
from vbench.planning import Keep, Plan, Planned, Rerun, asked_grid, make_plan
from vbench.provenance import provenance, stale_reason
from vbench.records import Outcome, Store
from vbench.store import replace as replace_file

__all__ = ["Plan", "Planned", "Result", "make_plan", "run"]

_TARGET = "vbench.runner:attempt"


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        folder: where the records are.
        outcomes: the outcome of every asked cell, by key.
        computed: how many cells were run now; the others were there.
    """

    folder: Path
    outcomes: Mapping[str, Outcome]
    computed: int

    @property
    def counts(self) -> Counter[str]:
        """Cells by status."""
        return Counter(outcome.status for outcome in self.outcomes.values())

    @property
    def failed(self) -> list[Outcome]:
        """Asked cells that are neither done nor skipped for a reason."""
        return [outcome for outcome in self.outcomes.values() if outcome.status not in ("done", "skipped")]


def run(
    grid: str | Path | Mapping[str, Any] | Grid,
    *,
    results: str | Path = "results",
    overrides: Sequence[str] = (),
    filters: Sequence[str] = (),
    workers: int | None = None,
    threads: int = 1,
    device: str = "cpu",
    timeout: float | None = None,
    memory: int | None = None,
    checkpoint: float = 60.0,
    keep_stale: bool = False,
    exclusive: bool = False,
    rerun: Rerun | None = None,
    keep: Keep | None = None,
    debug: bool = False,
    executor: str | Callable[..., Executor] = "local",
    scheduler: str = "",
    shard: tuple[int, int] | None = None,
    only: Collection[str] | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Result:
    """Run whatever of a grid is not done yet; the records are in ``results/<name>``.

    Several runs, also on several machines, may work on one folder at once: they share the cells.

    Args:
        grid: a YAML file or the same as a mapping.
        results: root of all studies.
        overrides: ``"train.steps=100"``.
        filters: ``"estimator=iwae*"``: only these cells.
        workers: cells at once, each in a process of its own; None: one per core; 0: in this process (to debug).
        threads: torch threads of each.
        device: ``cpu``, ``cuda`` or ``auto``.
        timeout: seconds that one cell may take.
        memory: bytes that one cell's process may take.
        checkpoint: seconds of training after which a cell saves where it could go on; 0: never.
        keep_stale: serve results whose code has since changed, marked, instead of making them again.
        exclusive: one cell at a time, so that its seconds are its own as far as this call goes; cells that were timed
            beside others are run again.
        rerun: which stored results are made again: ``failed``, ``stale`` or ``all``; None: failed and stale ones.
        keep: ``weights`` of every cell, for :func:`vbench.trained`, or its ``state``, from which more steps go on too;
            cells that are done without are run again.
        debug: open a debugger where a cell fails; with ``workers=0``.
        executor: what runs the cells, ``name`` or ``name[param=value]``: ``local`` processes, ``dask`` workers of a
            cluster that is started here, or a plugin's; or a factory of one (see :class:`vbench.execute.Executor`).
        scheduler: address of a running Dask scheduler, ``tcp://host:8786``: short for ``dask[scheduler=...]``.
        shard: (i, n): only the i-th of n parts of the cells, 1 to n; which a cell is in depends on its key alone.
        only: keys of the cells that are run; None: all.
        on_plan, on_event: called with the plan, then as cells start, go on and end.

    Raises:
        GridError: the grid, an override, a filter or the device is wrong.
        StoreError: results cannot be written; what was committed before is safe.
        KeyboardInterrupt: stopped; what had finished is kept, and the same call goes on from there.
    """
    grid = asked_grid(grid, overrides, filters)
    folder = Path(results) / grid.name
    workers = (os.cpu_count() or 1) if workers is None else workers
    workers = min(workers, 1) if exclusive else workers
    executor = executor_named(executor, scheduler) if isinstance(executor, str) else executor
    limits = Limits(_TARGET, (folder / "logs").resolve(), threads, timeout, memory)
    engine = make_executor(executor, limits, workers)
    if exclusive and engine.at_once > 1:
        raise GridError([f"--exclusive: not with {executor}, whose workers run cells side by side"])
    engine.warm()
    device = _device(device)
    stores = Store(folder), Store(folder / "references")
    for store in stores:
        store.sweep()
    asked: dict[str, Any] = {"keep_stale": keep_stale, "rerun": rerun, "exclusive": exclusive, "keep": keep}
    plan = make_plan(grid, results=results, stores=stores, **asked)
    for store in stores:  # the plan has read it
        store.set_aside()
    seen = {name for store in stores for name in store.seen}
    if shard:
        plan = plan.part(*shard)
    if only is not None:
        plan = plan.only(only)
    if on_plan:
        on_plan(plan)
    store = stores[0]
    _keep_grid(plan)
    catalogue = known_catalogue()

    def commit(assignment: Assignment, status: str, reason: str) -> None:
        """For an attempt that could not write its own outcome."""
        sources = provenance(assignment.cell.choices().values(), catalogue)
        assignment.store.commit(assignment.outcome(status, reason, provenance=sources))

    for planned in plan.cells:
        before = plan.stored.get(planned.key)
        if planned.action == "skip" and (before is None or before.reason != planned.reason):
            commit(_assignment(plan, planned, device), "skipped", planned.reason)

    jobs = list(_jobs(plan, device, keep or ""))
    timing = "shared" if min(engine.at_once, len(jobs)) > 1 else "exclusive"
    same = {"timing": timing, "checkpoint": checkpoint, "debug": debug}
    jobs = [replace(job, payload=replace(job.payload, **same)) for job in jobs]
    with Claims(folder) as claims:

        def admit(job: Job) -> Job | Wait | str:
            owner = claims.take(job.key)
            if owner:
                return Wait(f"process {owner.pid} on {owner.host} has claimed")
            if elsewhere := _elsewhere(job.payload, seen, catalogue):
                claims.release(job.key)
                return elsewhere
            return replace(job, payload=replace(job.payload, claim=claims.mine(job.key)))

        def lost(job: Job, status: str, reason: str) -> None:
            if job.payload.held:
                commit(job.payload, status, reason)

        def tell(event: Event) -> None:
            if event.kind == "ended":
                claims.release(event.key)
            if on_event:
                on_event(event)

        try:
            engine.run(jobs, tell, lost, admit)
        except ExecutorError as error:
            raise GridError([f"--executor {executor}: {error}"]) from None
        finally:
            outcomes = store.compact()
    found = {planned.key: outcomes[planned.key] for planned in plan.cells if planned.key in outcomes}
    return Result(folder, found, plan.count("run"))


def _elsewhere(assignment: Assignment, seen: Container[str], catalogue: Catalogue) -> str:
    """The status to which another run has brought this cell since the plan was made; empty where it has not."""
    new = [o for o in assignment.store.attempts(assignment.key) if f"{o.key}.{o.attempt}.parquet" not in seen]
    if not new or new[-1].status in ("crashed", "interrupted"):
        return ""
    current = provenance(assignment.cell.choices().values(), catalogue)
    return "" if stale_reason(new[-1].provenance, current) else new[-1].status


def _assignment(plan: Plan, planned: Planned, device: str, role: str = "cell") -> Assignment:
    cell = planned.cell
    components = _components(cell, known_catalogue())
    more: dict[str, Any] = {"beside": plan.grid.beside, "data": planned.data, "components": components}
    return Assignment(
        planned.key, cell.spec(), cell.labels(), str(plan.folder), role, planned.reference, device, **more
    )


def _components(cell: Cell, catalogue: Catalogue) -> tuple[Component, ...]:
    """All that a cell names, its measurements too."""
    names = [(kind, choice.name) for kind, choice in cell.choices().items()]
    likelihood, gradients = cell.measure.log_likelihood, cell.measure.gradients
    for text in (likelihood and likelihood.method, gradients and gradients.target):
        names += [("estimator", parse_text(text)[0])] if text else []
    return tuple(filter(None, itertools.starmap(catalogue.get, names)))


def _jobs(plan: Plan, device: str, keep: str) -> Iterator[Job]:
    """Reference runs first; a cell that is measured at one's checkpoints starts when that one has ended."""
    waited_for = {reference.key for reference in plan.references}
    for reference in plan.references:
        yield Job(reference.key, _assignment(plan, reference, device, "reference"))
    for planned in plan.cells:
        if planned.action == "run":
            after = (planned.reference,) if planned.reference in waited_for else ()
            made = replace(_assignment(plan, planned, device), keep=keep, start=planned.start)
            yield Job(planned.key, made, after)


def _keep_grid(plan: Plan) -> None:
    """Keep the recipe next to what it produces; a study's own files stay as their author wrote them."""
    kept = plan.folder / "grid.yaml"
    plan.folder.mkdir(parents=True, exist_ok=True)
    if plan.grid.source and not kept.exists():
        kept.write_text(plan.grid.source, "utf-8")
    if plan.folder.resolve() != Path(plan.grid.beside.folder).resolve():
        for file in plan.grid.beside.plugins:
            copy = plan.folder / file.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not copy.exists() or copy.read_bytes() != file.content:
                replace_file(file.content, copy)


def _device(name: str) -> str:
    """The device that a call asks for.

    Raises:
        GridError: there is no such device here.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        found = device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count())
    except RuntimeError:
        found = False
    if not found:
        raise GridError([f"--device {name}: not available here, expected cpu, cuda, cuda:N or auto"])
    return name
