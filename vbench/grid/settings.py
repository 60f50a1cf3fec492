"""How a cell is trained and what is measured: the models behind ``train`` and ``measure``."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_type_hints

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from vbench.catalogue import Catalogue, Parameter
from vbench.grid.choices import parameter_of, read_choices
from vbench.grid.positions import Node, Place, Problems
from vbench.grid.values import read_values

__all__ = ["Gradients", "InferenceGap", "Inner", "LogLikelihood", "Measure", "Train", "read_measure", "read_trains"]


class _Settings(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Inner(_Settings):
    """A loop over one part before each step of the others: coordinate ascent, or an aggressively trained encoder.

    Attributes:
        batches: the loop stays on the step's own data, or sees others at each of its steps.
        until: after this share of training all parts move together.
    """

    part: Literal["encoder", "decoder", "prior"] = "encoder"
    steps: Annotated[int, Ge(1), "steps of that part alone"] = 10
    batches: Literal["same", "fresh"] = "same"
    until: Annotated[float, Gt(0), Le(1), "share of training"] = 1.0


class Train(_Settings):
    """How a cell is trained."""

    steps: Annotated[int, Ge(1), "optimiser steps"] = 1000
    batch: Annotated[int, Ge(1), "data per step"] = 100
    optimizer: Literal["adam", "sgd", "rmsprop", "adamw"] = "adam"
    lr: Annotated[float, Gt(0), "learning rate"] = 1e-3
    clip: Annotated[float, Gt(0), "global gradient norm to clip at"] | None = None
    inner: Inner | None = None

    @property
    def looped(self) -> int:
        """How many steps, the first ones, have an inner loop before them."""
        return math.ceil(self.inner.until * self.steps) if self.inner else 0

    @property
    def updates(self) -> int:
        """Optimiser steps in all, those of inner loops among them."""
        return self.steps + (self.looped * self.inner.steps if self.inner else 0)

    @model_serializer(mode="wrap")
    def _told(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # what came later stands in a spec only where it is used: keys of older results stay
        return {name: value for name, value in dump(self).items() if name != "inner" or value}


class Gradients(_Settings):
    """How gradient variance is measured.

    Attributes:
        batch: None for the training batch size.
        reference: the estimator of the reference run, written out in full; None for the host's choice.
    """

    draws: Annotated[int, Ge(2), "gradient draws per batch"] = 100
    batches: Annotated[int, Ge(1), "fixed batches"] = 4
    batch: Annotated[int, Ge(1), "data per batch"] | None = None
    at: Literal["shared", "own"] = "own"
    reference: Annotated[str, "estimator of the reference run"] | None = None
    warmup: Annotated[int, Ge(0), "steps that an adaptive control gets on other batches"] = 200


class LogLikelihood(_Settings):
    """How held-out log-likelihood is estimated."""

    method: Literal["iwae"] = "iwae"
    k: Annotated[int, Ge(1), "importance samples per datum"] = 500


class InferenceGap(_Settings):
    """How the gap between evidence and ELBO is measured, and split into approximation and amortization."""

    k: Annotated[int, Ge(1), "importance samples per datum"] = 500
    steps: Annotated[int, Ge(1), "steps towards the best posterior"] = 300
    lr: Annotated[float, Gt(0), "learning rate of these steps"] = 0.05
    samples: Annotated[int, Ge(1), "posterior draws per datum"] = 200
    data: Annotated[int, Ge(1), "validation and test data that are used at most"] | None = 200


class Measure(_Settings):
    """What is measured, and when.

    Attributes:
        every: None for the last step only.
        data: None for all of them.
    """

    every: Annotated[int, Ge(1), "steps between measurements"] | None = None
    samples: Annotated[int, Ge(1), "posterior draws per datum"] = 16
    data: Annotated[int, Ge(1), "validation and test data that are used at most"] | None = None
    gradients: Gradients | None = None
    log_likelihood: LogLikelihood | None = None
    inference_gap: InferenceGap | None = None

    @model_serializer(mode="wrap")
    def _told(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if name != "inference_gap" or value}

    def steps(self, last: int) -> tuple[int, ...]:
        """The steps after which something is measured, the last one among them.

        >>> Measure(every=400).steps(1000)
        (400, 800, 1000)
        """
        return (*range(self.every, last, self.every), last) if self.every else (last,)


@functools.cache
def _parameters(model: type[_Settings]) -> tuple[Parameter, ...]:
    """The model's own fields as parameters, nested models apart."""
    hints = get_type_hints(model, include_extras=True)
    return tuple(
        parameter_of(name, hints[name], info.default, required=False)
        for name, info in model.model_fields.items()
        if name not in (*_NESTED, "inner")
    )


_NESTED: Mapping[str, type[_Settings]] = {
    "gradients": Gradients,
    "log_likelihood": LogLikelihood,
    "inference_gap": InferenceGap,
}


def read_trains(node: Node, path: str, problems: Problems) -> tuple[list[Train], tuple[str, ...]]:
    """Every crossing under ``train``, and the names that its sweep crosses, in the order of the fields."""
    values = read_values(node, _parameters(Train), path, problems, keys=("inner", "sweep"))
    swept = tuple(name for name in Train.model_fields if name in values.swept)
    entries: Mapping[str, Node] = node.value if isinstance(node.value, dict) else {}
    inner = None
    if "inner" in entries and entries["inner"].value is not None:
        inner = Inner(**read_values(entries["inner"], _parameters(Inner), f"{path}.inner", problems).given)
    return [Train(**given, inner=inner) for given in values.crossed()], swept


def read_measure(node: Node, catalogue: Catalogue, path: str, problems: Problems) -> Measure:
    """What stands under ``measure``; an empty mapping below it asks for the defaults."""
    given = dict(read_values(node, _parameters(Measure), path, problems, keys=tuple(_NESTED)).given)
    entries: Mapping[str, Node] = node.value if isinstance(node.value, dict) else {}
    for name, model in _NESTED.items():
        if name in entries and (inner := entries[name]).value is not None:
            values = dict(read_values(inner, _parameters(model), f"{path}.{name}", problems).given)
            if name == "gradients":
                _check_reference(values, inner, catalogue, f"{path}.{name}", problems)
            given[name] = model(**values)
    return Measure(**given)


def _check_reference(values: dict[str, Any], node: Node, catalogue: Catalogue, path: str, problems: Problems) -> None:
    """Write the reference out in full, so that its spelling does not change a cell's key."""
    if values.get("reference") is None:
        return
    place: Place = node.value["reference"].place
    if values.get("at") != "shared":
        problems.add(place, f"{path}.reference", "only with at: shared")
    found = read_choices(Node(values["reference"], place), "estimator", catalogue, f"{path}.reference", problems)
    values["reference"] = found[0].full if found else None
