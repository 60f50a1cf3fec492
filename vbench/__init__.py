"""vbench: a plugin-based benchmark of variational objectives.

Public names load on first use, so that ``import vbench`` and the command line stay fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from vbench.assemble import build, dataset
    from vbench.batches import fixed_batches
    from vbench.bounds import ELBO, IWAE, Combined, Filtering, Renyi
    from vbench.builtin.datasets.files import DataError, File, content
    from vbench.builtin.datasets.tensors import TensorDataset, fingerprint
    from vbench.builtin.encoders.bernoulli import BernoulliEncoder
    from vbench.builtin.encoders.gaussian import GaussianEncoder
    from vbench.builtin.nets import LSTM, Activation, activation_layer, mlp
    from vbench.estimators.controls import LearnedBaseline, LeaveOneOut, Zero
    from vbench.estimators.doubly import DoublyReparameterized
    from vbench.estimators.pathwise import AnalyticKL, Pathwise
    from vbench.estimators.score import Score
    from vbench.families import Bernoulli, Categorical, DiagonalNormal, NormalMixture
    from vbench.finished import encode, sample, trained
    from vbench.hookspecs import hookimpl
    from vbench.measure.gradients import gradient_moments
    from vbench.model import Model, frozen, moving
    from vbench.records import load
    from vbench.report.comparison import compare
    from vbench.report.per_datum import paired_differences
    from vbench.rng import Rng, derive
    from vbench.steps import Sequences, State, StepDecoder, StepEncoder, StepPrior, sequences
    from vbench.study import run
    from vbench.targets import Wake
    from vbench.types import (
        Atoms,
        Batch,
        Bound,
        Dataset,
        Decoder,
        Density,
        Draw,
        Encoder,
        Estimate,
        Estimator,
        Incompatible,
        Likelihood,
        Natural,
        Objective,
        Parts,
        Posterior,
        Prior,
        Refittable,
        Space,
        Target,
        Trait,
    )

_HOMES = {
    "vbench.bounds": ("ELBO", "IWAE", "Combined", "Filtering", "Renyi"),
    "vbench.assemble": ("build", "dataset"),
    "vbench.batches": ("fixed_batches",),
    "vbench.builtin.datasets.files": ("DataError", "File", "content"),
    "vbench.builtin.datasets.tensors": ("TensorDataset", "fingerprint"),
    "vbench.builtin.nets": ("LSTM", "Activation", "activation_layer", "mlp"),
    "vbench.builtin.encoders.bernoulli": ("BernoulliEncoder",),
    "vbench.builtin.encoders.gaussian": ("GaussianEncoder",),
    "vbench.estimators.controls": ("LearnedBaseline", "LeaveOneOut", "Zero"),
    "vbench.estimators.doubly": ("DoublyReparameterized",),
    "vbench.estimators.pathwise": ("AnalyticKL", "Pathwise"),
    "vbench.estimators.score": ("Score",),
    "vbench.families": ("Bernoulli", "Categorical", "DiagonalNormal", "NormalMixture"),
    "vbench.hookspecs": ("hookimpl",),
    "vbench.measure.gradients": ("gradient_moments",),
    "vbench.model": ("Model", "frozen", "moving"),
    "vbench.records": ("load",),
    "vbench.report.comparison": ("compare",),
    "vbench.report.per_datum": ("paired_differences",),
    "vbench.rng": ("Rng", "derive"),
    "vbench.steps": ("Sequences", "State", "StepDecoder", "StepEncoder", "StepPrior", "sequences"),
    "vbench.study": ("run",),
    "vbench.targets": ("Wake",),
    "vbench.finished": ("encode", "sample", "trained"),
    "vbench.types": (
        "Atoms",
        "Batch",
        "Bound",
        "Dataset",
        "Decoder",
        "Density",
        "Draw",
        "Encoder",
        "Estimate",
        "Estimator",
        "Incompatible",
        "Likelihood",
        "Natural",
        "Objective",
        "Parts",
        "Posterior",
        "Prior",
        "Refittable",
        "Space",
        "Target",
        "Trait",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ELBO",
    "IWAE",
    "LSTM",
    "Activation",
    "AnalyticKL",
    "Atoms",
    "Batch",
    "Bernoulli",
    "BernoulliEncoder",
    "Bound",
    "Categorical",
    "Combined",
    "DataError",
    "Dataset",
    "Decoder",
    "Density",
    "DiagonalNormal",
    "DoublyReparameterized",
    "Draw",
    "Encoder",
    "Estimate",
    "Estimator",
    "File",
    "Filtering",
    "GaussianEncoder",
    "Incompatible",
    "LearnedBaseline",
    "LeaveOneOut",
    "Likelihood",
    "Model",
    "Natural",
    "NormalMixture",
    "Objective",
    "Parts",
    "Pathwise",
    "Posterior",
    "Prior",
    "Refittable",
    "Renyi",
    "Rng",
    "Score",
    "Sequences",
    "Space",
    "State",
    "StepDecoder",
    "StepEncoder",
    "StepPrior",
    "Target",
    "TensorDataset",
    "Trait",
    "Wake",
    "Zero",
    "activation_layer",
    "build",
    "compare",
    "content",
    "dataset",
    "derive",
    "encode",
    "fingerprint",
    "fixed_batches",
    "frozen",
    "gradient_moments",
    "hookimpl",
    "load",
    "mlp",
    "moving",
    "paired_differences",
    "run",
    "sample",
    "sequences",
    "trained",
]


def __getattr__(name: str) -> Any:
    if name == "plot":  # vbench.plot.elbo(...) without importing it first
        return importlib.import_module("vbench.plot")
    if name == "__version__":  # of the package's metadata, read where it is asked for
        return importlib.import_module("vbench.discovery").version()
    if name not in _HOME:
        raise AttributeError(f"module 'vbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
