"""Once through a cell before the first fork: what a first call makes is then there for every job.

Tables of operators, validators, signatures and compiled patterns come to a seventh of a small cell. Nothing is
differentiated: a process that has begun to may not be forked where it also has a CUDA device.
"""

from __future__ import annotations

import torch

from vbench.assemble import build_choices
from vbench.attempts import Outcome, packed
from vbench.batches import fixed_batches
from vbench.grid import read_grid
from vbench.grid.crossing import cell_from_spec
from vbench.listing import forget, learn
from vbench.measure.evaluations import decoder_evaluations
from vbench.measure.schedule import evaluate
from vbench.provenance import environment
from vbench.registry import load_registry

__all__ = ["rehearse"]

_GRID = {
    "datasets": ["bernoulli-bars"],
    "encoders": ["gaussian"],
    "decoders": ["bernoulli"],
    "priors": ["standard-normal"],
    "estimators": ["reparam"],
    "measure": {"data": 2, "samples": 1},
}


def rehearse() -> None:
    """Build, evaluate and pack a cell of vbench's own parts in this process; nothing of it can be seen afterwards."""
    torch.set_num_threads(1)  # a process with a pool of threads may not be forked
    catalogue = load_registry("vbench").catalogue()
    learn(catalogue)
    try:
        [cell] = read_grid(_GRID, catalogue).cells()
        cell = cell_from_spec(cell.spec(), cell.labels())
        built = build_choices(cell.choices(), cell.seed)
        decoder_evaluations(built.model, built.estimator, next(fixed_batches(built.data, "train", 2, 0, count=1)))
        rows = evaluate(built, cell, 1, last=True, device=torch.device("cpu"))
        sources = {"environment": environment("cpu")}
        packed("rehearsal", Outcome("rehearsal", "done", "", cell.labels(), 0, cell.spec(), {}, sources), rows)
    finally:
        forget()
