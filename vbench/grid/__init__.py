"""A grid: from a file, a mapping and ``--set`` to typed cells with keys, or to every problem with its place.

It knows components by their descriptions alone (:mod:`vbench.catalogue`), so that mistakes are told before torch loads.
"""

from __future__ import annotations

from vbench.grid.choices import Choice, parse_choice
from vbench.grid.crossing import SCHEMA_VERSION, Cell, Grid, cell_from_spec
from vbench.grid.naming import named_components
from vbench.grid.parameters import parameter_of
from vbench.grid.positions import GridError
from vbench.grid.reading import read_grid
from vbench.grid.settings import (
    AIS,
    EXACT_TARGETS,
    Budget,
    Gradients,
    InferenceGap,
    Inner,
    LogLikelihood,
    Measure,
    Reference,
    SampleQuality,
    Train,
)

__all__ = [
    "AIS",
    "EXACT_TARGETS",
    "SCHEMA_VERSION",
    "Budget",
    "Cell",
    "Choice",
    "Gradients",
    "Grid",
    "GridError",
    "InferenceGap",
    "Inner",
    "LogLikelihood",
    "Measure",
    "Reference",
    "SampleQuality",
    "Train",
    "cell_from_spec",
    "named_components",
    "parameter_of",
    "parse_choice",
    "read_grid",
]
