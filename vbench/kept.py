"""What a finished cell leaves behind on request: its weights, or the state from which longer training goes on.

A file ``results/<study>/kept/<key>.<digest>.<what>.safetensors`` is named after its content and by the record of the
attempt that it belongs to (``kept``, a column of the cells table). Keeping it changes no key and no number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from vbench import store
from vbench.attempts import Outcome
from vbench.resume import below, packed, unpacked

__all__ = ["KINDS", "file_of", "folder", "load", "missing", "save", "superfluous"]

KINDS: Final = ("weights", "state")  # a state has the weights too


def folder(study: Path) -> Path:
    """Where a study keeps them."""
    return study / "kept"


def save(study: Path, key: str, what: str, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> str:
    """Keep what is asked for of a cell's last state; returns the file's name.

    Raises:
        StoreError: it cannot be written.
    """
    chosen = tensors if what == "state" else {n: t for n, t in tensors.items() if n.startswith("model.")}
    data = packed(chosen, notes)
    path = folder(study) / f"{key}.{hashlib.sha256(data).hexdigest()[:16]}.{what}.safetensors"
    store.replace(data, path)
    return path.name


def file_of(study: Path, outcome: Outcome, what: str = "weights") -> Path | None:
    """The file that a cell's attempt left, if it holds as much as is asked for and is there."""
    name = str(outcome.facts.get("kept") or "")
    enough = name.endswith(tuple(f".{kind}.safetensors" for kind in KINDS[KINDS.index(what) :]))
    return folder(study) / name if enough and (folder(study) / name).is_file() else None


def load(path: Path) -> dict[str, Tensor]:
    """A cell's trained parameters and buffers.

    Raises:
        DamagedError: the file is not what was written.
    """
    return below("model.", unpacked(path)[1])


def missing(study: Path, outcomes: Iterable[Outcome]) -> Iterator[Path]:
    """Files that records name and that are not there."""
    for outcome in outcomes:
        if outcome.facts.get("kept") and not file_of(study, outcome):
            yield folder(study) / outcome.facts["kept"]


def superfluous(study: Path, outcomes: Iterable[Outcome]) -> list[Path]:
    """Files that no attempt that counts has left."""
    named = {str(outcome.facts.get("kept")) for outcome in outcomes}
    return [path for path in sorted(folder(study).glob("[!.]*.safetensors")) if path.name not in named]
