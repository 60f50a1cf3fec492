"""What a worker is told of the one attempt that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vbench import claims
from vbench.beside import Beside
from vbench.catalogue import Component
from vbench.grid import Cell, cell_from_spec
from vbench.records import Outcome, Store

__all__ = ["Assignment", "now"]


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
        timing: of its seconds; ``shared`` where other cells of the same call may run beside it, else ``exclusive``.
        checkpoint: seconds of training between two points that it can go on from; 0: none.
        claim: file and nonce of the claim on the cell; without it, or once it is lost, nothing may be committed.
        debug: open a debugger where it fails.
        keep: what is left of it when it is done: ``weights``, ``state`` or nothing.
        start: file that a shorter run of the same has left; empty where training begins at the beginning.
        beside: what stands beside the grid.
        data: digest of the data that the key is of; empty where it is not known.
        components: those that the cell names, described, so that it need not ask every plugin.
    """

    key: str
    spec: Mapping[str, Any]
    labels: Mapping[str, str]
    study: str
    role: str = "cell"
    reference: str = ""
    device: str = "cpu"
    timing: str = "exclusive"
    checkpoint: float = 0.0
    claim: tuple[str, str] | None = None
    debug: bool = False
    keep: str = ""
    start: str = ""
    beside: Beside = field(default_factory=Beside)
    data: str = ""
    components: tuple[Component, ...] = ()

    @property
    def store(self) -> Store:
        """Where the attempt is committed: references stand apart from the study's own cells."""
        folder = Path(self.study)
        return Store(folder if self.role == "cell" else folder / "references")

    @property
    def held(self) -> bool:
        """Whether the cell is still ours to commit."""
        return self.claim is None or claims.held(Path(self.claim[0]), self.claim[1])

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
