"""What running a grid would do, cell by cell: run, leave as done, or skip for a reason."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vbench import checkpoints, kept
from vbench.beside import use
from vbench.catalogue import KINDS, Catalogue
from vbench.continuing import Shorter, trained_steps
from vbench.course import unmet
from vbench.execute.fitting import NO_DATA, Finding, try_parts
from vbench.grid import Cell, Choice, Gradients, Grid, Measure, Reference, parse_choice, read_grid
from vbench.grid.parameters import canonical
from vbench.listing import load_catalogue
from vbench.provenance import provenance, stale_reason
from vbench.records import Outcome, Store

__all__ = ["Keep", "Plan", "Planned", "Rerun", "asked_grid", "make_plan"]

Action = Literal["run", "done", "skip"]
Rerun = Literal["failed", "stale", "all"]
Keep = Literal["weights", "state"]
REFERENCES = ("reparam", "rloo[k=4]")  # unbiased, one of them serves every latent; the first that fits
_OWN = "vbench"
_FINAL = ("done", "diverged")  # training again would give the same


@dataclass(frozen=True, slots=True)
class Planned:
    """One cell and what is to happen to it.

    Attributes:
        reference: key of the run whose checkpoints it is measured at.
        start: the file below ``kept`` that its training goes on from.
        data: digest of its data, as they were; empty where they could not be had.
    """

    cell: Cell
    key: str
    action: Action
    reason: str = ""
    reference: str = ""
    start: str = ""
    data: str = ""


@dataclass(frozen=True)
class Plan:
    """Every cell of a grid with its action, and the reference runs that some of them wait for.

    Attributes:
        references: those still to be run.
        stored, stored_references: what is there, by key.
    """

    grid: Grid
    folder: Path
    cells: tuple[Planned, ...]
    references: tuple[Planned, ...]
    stored: Mapping[str, Outcome] = field(default_factory=dict, repr=False)
    stored_references: Mapping[str, Outcome] = field(default_factory=dict, repr=False)

    def count(self, action: Action) -> int:
        """How many cells have this action."""
        return sum(planned.action == action for planned in self.cells)

    def part(self, i: int, n: int) -> Plan:
        """The i-th of n parts, 1 to n, with the reference runs that it waits for; cut by keys alone."""
        return self.only(planned.key for planned in self.cells if int(planned.key[:8], 16) % n == i - 1)

    def only(self, keys: Iterable[str]) -> Plan:
        """These cells, with the reference runs that they wait for."""
        wanted = frozenset(keys)
        cells = tuple(planned for planned in self.cells if planned.key in wanted)
        waited_for = {planned.reference for planned in cells}
        return replace(self, cells=cells, references=tuple(r for r in self.references if r.key in waited_for))


@dataclass
class _Combination:
    """What the seeds of one combination share.

    Attributes:
        obstacle: why its parts do not go together.
        key: of a seed, and of a reference run where there is one.
        reference, reference_key: the run whose checkpoints it is measured at, and its key of a seed.
        data: digest of its data; empty where they cannot be had.
    """

    obstacle: str
    key: Callable[..., str]
    reference: Cell | None
    reference_key: Callable[..., str]
    data: str


@dataclass
class _Planner:
    grid: Grid
    catalogue: Catalogue
    folder: Path
    stores: tuple[Store, Store]
    rerun: frozenset[str]
    keep: str = ""

    def __post_init__(self) -> None:
        self.current = functools.cache(self._current)
        self._specs: dict[str, Outcome] | None = None

    def plan(self) -> Plan:
        stored, kept_runs = (store.outcomes() for store in self.stores)
        references: dict[str, Planned] = {}
        combinations: dict[tuple[int, ...], _Combination] = {}
        shorter = Shorter(self.folder, stored.values())
        cells = []
        for cell in self.grid.cells():
            parts = tuple(
                map(
                    id, (cell.dataset, cell.encoder, cell.decoder, cell.prior, cell.estimator, cell.train, cell.measure)
                )
            )
            if parts not in combinations:
                combinations[parts] = self._combine(cell)
            shared = combinations[parts]
            reference = shared.reference_key(cell.seed)
            key = shared.key(cell.seed, reference=reference)
            action, reason = self._decide(cell, key, shared.obstacle, stored)
            if action == "done" and "shared" in self.rerun and stored[key].facts.get("timing") == "shared":
                action, reason = "run", "was timed beside other cells"
            if action == "done" and self._lacks(stored[key]):
                action, reason = "run", f"no {self.keep} of it was kept"
            start = ""
            if action == "run" and (key not in stored or stored[key].status not in _FINAL):
                start, why = shorter.start(cell, self.digest, self.current)
                reason = reason or why
            cells.append(Planned(cell, key, action, reason, reference, start, shared.data))
            if action == "run" and shared.reference and reference not in references:
                wanted = replace(shared.reference, seed=cell.seed)
                references[reference] = self._decide_reference(wanted, reference, kept_runs)
        waiting = tuple(r for r in references.values() if r.action == "run")
        return Plan(self.grid, self.folder, tuple(cells), waiting, stored, kept_runs)

    def _combine(self, cell: Cell) -> _Combination:
        digest = self.digest(cell.dataset)
        reference = self._reference(cell)
        return _Combination(
            self._obstacle(cell),
            cell.keys(digest, reference=reference is not None),
            reference,
            reference.keys(digest, role="reference") if reference else lambda seed: "",
            self._data(cell),
        )

    def _decide(self, cell: Cell, key: str, obstacle: str, stored: Mapping[str, Outcome]) -> tuple[Action, str]:
        if obstacle:
            return "skip", obstacle
        before = stored.get(key)
        if before is None:
            return "run", self._doubt(cell) or (self._other(cell, stored) if stored else "")
        if before.status not in _FINAL:
            return "run" if "failed" in self.rerun else "done", f"was {before.status}: {before.reason}"
        if "all" in self.rerun:
            return "run", "asked for"
        why = stale_reason(before.provenance, self.current(tuple(cell.choices().values())))
        if why and "stale" in self.rerun:
            return "run", f"stale: {why}"
        return "done", f"stale, kept: {why}" if why else ""

    def _decide_reference(self, cell: Cell, key: str, stored: Mapping[str, Outcome]) -> Planned:
        action, reason = self._decide(cell, key, "", stored)
        steps = cell.measure.gradients.checkpoints if cell.measure.gradients else ()
        if action == "done" and stored[key].status == "done" and checkpoints.lacking(self.folder, key, steps):
            action, reason = "run", "a checkpoint is missing"
        return Planned(cell, key, action, reason, data=self._data(cell))

    def _data(self, cell: Cell) -> str:
        digest = self.digest(cell.dataset)
        return "" if digest == NO_DATA else digest

    def _other(self, cell: Cell, stored: Mapping[str, Outcome]) -> str:
        """Why a cell has another key than a stored one of the same spec."""
        if self._specs is None:
            self._specs = {canonical(o.spec): o for o in stored.values() if o.status in _FINAL}
        before = self._specs.get(canonical(cell.spec()))
        if before is None:
            return ""
        data = before.facts.get("data_digest") == self.digest(cell.dataset)
        return f"stale: its {'reference run' if data else 'data'} changed"

    def _lacks(self, before: Outcome) -> bool:
        """Whether what is to be kept of a finished cell is not there; without a step nothing was trained."""
        wanted = self.keep and before.status == "done" and before.facts.get("ended_after", trained_steps(before))
        return bool(wanted) and kept.file_of(self.folder, before, self.keep) is None

    def _candidates(self, gradients: Gradients) -> list[Choice]:
        """The estimators that may train what is measured at shared checkpoints; the first that fits does."""
        wanted = gradients.reference
        texts = [wanted.estimator] if wanted and wanted.estimator else REFERENCES
        return [parse_choice(each, "estimator", self.catalogue, "measure.gradients.reference") for each in texts]

    def _reference(self, cell: Cell) -> Cell | None:
        gradients = cell.measure.gradients
        if gradients is None or gradients.at != "shared":
            return None
        train = (gradients.reference or Reference()).train
        left = Measure(gradients=Gradients(at="shared", checkpoints=gradients.checkpoints))
        for choice in self._candidates(gradients):
            run = replace(cell, estimator=choice, train=train, measure=left, swept=())
            if not self._obstacle(run):
                return run
        return None

    def _obstacle(self, cell: Cell) -> str:
        found = self.combinations.get(tuple(cell.choices().values()), Finding(""))  # none: data that cannot be had
        return found.text or (unmet(cell.train, found.offers) if found.offers else "")

    def _doubt(self, cell: Cell) -> str:
        """What else is to be said of a cell that is about to run for the first time."""
        choices = tuple(cell.choices().values())
        found = self.datasets[cell.dataset,], *filter(None, [self.combinations.get(choices)])
        return next((each.doubt for each in found if each.doubt), "")

    def digest(self, dataset: Choice) -> str:
        """Of the data; ``NO_DATA`` where they cannot be had."""
        return self.datasets[dataset,].text

    @functools.cached_property
    def datasets(self) -> dict[tuple[Choice, ...], Finding]:
        """What each dataset's digest is."""
        return self._found("digests", [(dataset,) for dataset in self.grid.axes["dataset"]])

    @functools.cached_property
    def combinations(self) -> dict[tuple[Choice, ...], Finding]:
        """Why parts do not go together; empty where they do, or where the attempt will say so in its own row."""
        axes = self.grid.axes
        measured = [measure.gradients for measure in axes.get("reference", (self.grid.measure,))]
        shared = [self._candidates(gradients) for gradients in measured if gradients and gradients.at == "shared"]
        estimators = dict.fromkeys([*axes["estimator"], *itertools.chain(*shared)])
        readable = [dataset for (dataset,), found in self.datasets.items() if found.text != NO_DATA]
        return self._found("obstacles", [*itertools.product(readable, *(axes[k] for k in KINDS[1:-1]), estimators)])

    def _found(self, what: str, items: list[tuple[Choice, ...]]) -> dict[tuple[Choice, ...], Finding]:
        """What trying finds: vbench's own parts here, and whatever a plugin has a part in elsewhere."""
        own, strange = ([item for item in items if all(map(self._own, item)) is mine] for mine in (True, False))
        return try_parts(what, own, here=True) | try_parts(what, strange, tuple(self.catalogue))

    def _own(self, choice: Choice) -> bool:
        component = self.catalogue.get(choice.kind, choice.name)
        return component is not None and component.distribution == _OWN

    def _current(self, choices: tuple[Choice, ...]) -> dict[str, Any]:
        return provenance(choices, self.catalogue)


def make_plan(
    grid: str | Path | Mapping[str, Any] | Grid,
    *,
    results: str | Path = "results",
    overrides: Sequence[str] = (),
    filters: Sequence[str] = (),
    keep_stale: bool = False,
    rerun: Rerun | None = None,
    exclusive: bool = False,
    keep: Keep | None = None,
    stores: tuple[Store, Store] | None = None,
) -> Plan:
    """What a run of this grid would do, cell by cell, without doing it.

    Args:
        grid, results, overrides, filters, keep_stale, rerun, exclusive, keep: as for :func:`vbench.run`.
        stores: the study's results and reference runs, where they have been opened already.

    Raises:
        GridError: the grid, an override or a filter is wrong.
        PluginError: two plugins claim one name.
    """
    grid = asked_grid(grid, overrides, filters)
    again = _again(keep_stale, rerun) | ({"shared"} if exclusive else set())
    folder = Path(results) / grid.name
    stores = stores or (Store(folder), Store(folder / "references"))
    return _Planner(grid, load_catalogue(), folder, stores, again, keep or "").plan()


def _again(keep_stale: bool, rerun: Rerun | None) -> frozenset[str]:
    """Which stored results are made again."""
    wanted = {None: {"failed", "stale"}, "all": {"failed", "stale", "all"}}.get(rerun, {str(rerun)})
    return frozenset(wanted - {"stale"} if keep_stale else wanted)


def asked_grid(grid: str | Path | Mapping[str, Any] | Grid, overrides: Sequence[str], filters: Sequence[str]) -> Grid:
    """The grid that a call means.

    Raises:
        GridError: it, an override or a filter is wrong.
    """
    if isinstance(grid, Grid):
        use(grid.beside)
    else:
        grid = read_grid(grid, load_catalogue, overrides)
    return grid.filtered(filters) if filters else grid
