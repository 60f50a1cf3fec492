"""How a cell is trained and what is measured: the models behind ``train`` and ``measure``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, get_type_hints

from annotated_types import Ge, Gt
from pydantic import BaseModel, ConfigDict

from vbench.catalogue import Catalogue, Parameter
from vbench.grid.choices import parameter_of, read_choices
from vbench.grid.positions import Node, Place, Problems
from vbench.grid.values import read_values

__all__ = ["Gradients", "LogLikelihood", "Measure", "Train", "read_measure", "read_trains"]


class _Settings(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Train(_Settings):
    """How a cell is trained."""

    steps: Annotated[int, Ge(1), "optimiser steps"] = 1000
    batch: Annotated[int, Ge(1), "data per step"] = 100
    optimizer: Literal["adam", "sgd", "rmsprop", "adamw"] = "adam"
    lr: Annotated[float, Gt(0), "learning rate"] = 1e-3
    clip: Annotated[float, Gt(0), "global gradient norm to clip at"] | None = None


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
    """How held-out log-likelihood is estimated.

    Attributes:
        method: importance sampling, or an estimator whose lower bound is the estimate, written out in full.
        k: of either.
    """

    method: Annotated[str, "iwae, or an estimator whose bound of k samples is taken"] = "iwae"
    k: Annotated[int, Ge(1), "samples per datum"] = 500


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
        if name not in _NESTED
    )


_NESTED: Mapping[str, type[_Settings]] = {"gradients": Gradients, "log_likelihood": LogLikelihood}


def read_trains(node: Node, path: str, problems: Problems) -> tuple[list[Train], tuple[str, ...]]:
    """Every crossing under ``train``, and the names that its sweep crosses, in the order of the fields."""
    values = read_values(node, _parameters(Train), path, problems, keys=("sweep",))
    swept = tuple(name for name in Train.model_fields if name in values.swept)
    return [Train(**given) for given in values.crossed()], swept


def read_measure(node: Node, catalogue: Catalogue, path: str, problems: Problems) -> Measure:
    """What stands under ``measure``; an empty mapping below it asks for the defaults."""
    given = dict(read_values(node, _parameters(Measure), path, problems, keys=tuple(_NESTED)).given)
    entries: Mapping[str, Node] = node.value if isinstance(node.value, dict) else {}
    for name, model in _NESTED.items():
        if name in entries and (inner := entries[name]).value is not None:
            values = dict(read_values(inner, _parameters(model), f"{path}.{name}", problems).given)
            if name == "gradients":
                _check_reference(values, inner, catalogue, f"{path}.{name}", problems)
            if name == "log_likelihood":
                _check_method(values, inner, catalogue, f"{path}.{name}", problems)
            given[name] = model(**values)
    return Measure(**given)


def _check_method(values: dict[str, Any], node: Node, catalogue: Catalogue, path: str, problems: Problems) -> None:
    """Write the estimator out in full, at the k that is asked for."""
    if values.get("method", "iwae") == "iwae":
        return
    place: Place = node.value["method"].place
    for found in read_choices(Node(values["method"], place), "estimator", catalogue, f"{path}.method", problems)[:1]:
        if "k" not in found.parameters:
            problems.add(place, f"{path}.method", f"{found.name} has no k")
        k = values.get("k", LogLikelihood.model_fields["k"].default)
        values["method"] = replace(found, parameters={**found.parameters, "k": k}).full


def _check_reference(values: dict[str, Any], node: Node, catalogue: Catalogue, path: str, problems: Problems) -> None:
    """Write the reference out in full, so that its spelling does not change a cell's key."""
    if values.get("reference") is None:
        return
    place: Place = node.value["reference"].place
    if values.get("at") != "shared":
        problems.add(place, f"{path}.reference", "only with at: shared")
    found = read_choices(Node(values["reference"], place), "estimator", catalogue, f"{path}.reference", problems)
    values["reference"] = found[0].full if found else None
