"""What is measured where: each measure over its data, skipped with a reason where the parts do not offer what it needs."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from vbench.batches import fixed_batches
from vbench.assemble import Built
from vbench.grid import Cell
from vbench.measure.diagnostics import diagnose
from vbench.measure.gradients import adapt, gradient_measurements
from vbench.measure.likelihood import log_likelihood
from vbench.records import Row
from vbench.rng import derive
from vbench.types import Batch

__all__ = ["evaluate", "measure_gradients"]
