"""Parameters of reference runs, frozen at the steps where every estimator is measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor, nn

from vbench.store import replace

__all__ = ["folder", "load", "store"]


def folder(study: Path, reference: str) -> Path:
    """Where one reference run keeps its checkpoints."""
    return study / "references" / "checkpoints" / reference


def store(study: Path, reference: str, step: int, model: nn.Module) -> None:
    """Freeze the model's parameters and buffers at ``step``: a whole file or none."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    replace(save(tensors), folder(study, reference) / f"{step}.safetensors")


def load(study: Path, reference: str) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """(step, tensors) of every checkpoint of a reference run, in order of steps."""
    files = {int(file.stem): file for file in folder(study, reference).glob("*.safetensors")}
    for step in sorted(files):
        yield step, load_file(files[step])
