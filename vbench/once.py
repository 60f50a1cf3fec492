"""What several cells of a study need and one of them computes: tensors, kept beside the reference runs.

A file is named after what is asked for, and says what it was made from; where that is another by now (code has
changed), it is made again in its place. Who needs it first claims it, as cells are claimed, and makes it; whoever
comes meanwhile waits for the file. It is a copy and no result: where it cannot be kept or was damaged it is computed
again.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from vbench import store
from vbench.claims import Claims
from vbench.grid.parameters import canonical
from vbench.resume import packed, unpacked

__all__ = ["Once", "folder"]

_PAUSE: Final = 0.2  # seconds between two looks at what another makes


def folder(study: Path) -> Path:
    """Where a study keeps them."""
    return study / "references" / "once"


@dataclass(frozen=True)
class Once:
    """Computes what is not there yet.

    Attributes:
        study: results folder of the study.
        sources: code and environment; another's files are not taken.
    """

    study: Path
    sources: Mapping[str, Any]

    def __call__(
        self, asked: Mapping[str, Any], given: Mapping[str, Tensor], make: Callable[[], Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        """What ``make`` returns, on the CPU, whoever ran it.

        Args:
            asked: names it, together with the environment.
            given: all that it is computed from besides.
            make: computes it.
        """
        named = {**asked, "environment": self.sources["environment"]}
        path = folder(self.study) / f"{hashlib.sha256(canonical(named).encode()).hexdigest()[:32]}.safetensors"
        identity = {**self.sources, "given": _digest(given)}
        with Claims(path.parent) as claims:
            while (found := _read(path, identity)) is None and not _ours(claims, path.stem):
                time.sleep(_PAUSE)
            # between the last look and the claim another may have come to its end
            if found is None and (found := _read(path, identity)) is None:
                found = {name: tensor.detach().cpu() for name, tensor in make().items()}
                try:
                    store.replace(packed(found, identity), path)
                except store.StoreError as problem:
                    print(f"vbench: what other cells need too is not kept for them: {problem}", file=sys.stderr)
        return found


def _ours(claims: Claims, key: str) -> bool:
    try:
        return claims.take(key) is None
    except store.StoreError:  # nothing can be claimed here, and nothing kept
        return True


def _read(path: Path, identity: Mapping[str, Any]) -> Mapping[str, Tensor] | None:
    """None where there is no such file, none that is whole, or one that was made from something else."""
    try:
        notes, tensors = unpacked(path)
    except (store.DamagedError, KeyError, ValueError):
        return None
    return tensors if notes == identity else None


def _digest(tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
