"""Parameters of reference runs, frozen at the steps where every estimator is measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from safetensors.torch import load as load_tensors
from safetensors.torch import save
from torch import Tensor, contiguous_format, nn

from vbench.store import BLANK, DIGEST_KEY, read, replace, seal

__all__ = ["folder", "lacking", "load", "store"]


def folder(study: Path, reference: str) -> Path:
    """Where one reference run keeps its checkpoints."""
    return study / "references" / "checkpoints" / reference


def store(study: Path, reference: str, step: int, model: nn.Module) -> None:
    """Freeze the model's parameters and buffers at ``step``: a whole file or none."""
    # a copy of each: the format refuses tensors that share memory, as tied weights do
    tensors = {n: t.detach().cpu().clone(memory_format=contiguous_format) for n, t in model.state_dict().items()}
    data = save(tensors, {DIGEST_KEY: BLANK})
    replace(seal(data), folder(study, reference) / f"{step}.safetensors")


def lacking(study: Path, reference: str, steps: Iterable[int]) -> list[int]:
    """Those of ``steps``, the initialisation among them, that have no file."""
    there = {int(file.stem) for file in folder(study, reference).glob("*.safetensors")}
    return sorted({0, *steps} - there)


def load(study: Path, reference: str) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """(step, tensors) of every checkpoint of a reference run, in order of steps.

    Raises:
        DamagedError: a file is not what was written.
    """
    files = {int(file.stem): file for file in folder(study, reference).glob("*.safetensors")}
    for step in sorted(files):
        yield step, load_tensors(read(files[step]))
