"""A small catalogue built by hand, and grids that fit it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MinLen
from hypothesis import HealthCheck

from vbench.catalogue import Broken, Catalogue, Component, Kind, Parameter
from vbench.grid.choices import parameter_of

__all__ = ["BROKEN", "CATALOGUE", "GRID", "PATIENT", "component"]

# the same examples each time; a busy machine is no bug
PATIENT: Any = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow],
}

NO_DEFAULT: Any = object()


def component(kind: Kind, name: str, **parameters: Any) -> Component:
    """Each parameter is (annotation, default), or (annotation,) when required."""
    made = [_parameter(key, *value) for key, value in parameters.items()]
    return Component(kind, name, "vbench", "0", parameters=tuple(made), module=f"fake:{name}")


def _parameter(name: str, annotation: Any, default: Any = NO_DEFAULT) -> Parameter:
    required = default is NO_DEFAULT
    return parameter_of(name, annotation, None if required else default, required)


_WIDTHS = (Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the layers"], (200, 200))
_ALL = [
    component("dataset", "digits", binarization=(Literal["dynamic", "static"], "dynamic")),
    component("dataset", "csv", path=(Annotated[str, MinLen(1), "the file"],), scale=(float, 1)),
    component("encoder", "gaussian", latent=(Annotated[int, Ge(1), "latent size"], 50), hidden=_WIDTHS),
    component("encoder", "bernoulli", latent=(Annotated[int, Ge(1)], 200)),
    component("decoder", "bernoulli", hidden=_WIDTHS, activation=(Literal["relu", "tanh"], "tanh")),
    component("prior", "standard-normal"),
    component("prior", "mixture", shape=(tuple[int, float], (2, 1.0)), tag=(str | None, None)),
    component("estimator", "reparam"),
    component("estimator", "rloo", k=(Annotated[int, Ge(2), Le(64), "samples per datum"], 2)),
    component(
        "estimator",
        "iwae",
        k=(Annotated[int, Ge(1), "samples per datum"], 5),
        beta=(Annotated[float, Gt(0)], 1.0),
        learned=(bool, False),
    ),
    component("estimator", "renyi", alpha=(float | None, 0.5), note=(str, "")),
]


def _catalogue(*broken: Broken) -> Catalogue:
    components: dict[Kind, dict[str, Component]] = {}
    for item in _ALL:
        components.setdefault(item.kind, {})[item.name] = item
    return Catalogue(components, broken)


CATALOGUE = _catalogue()
BROKEN = _catalogue(Broken("vbench-x", "1", "x = vbench_x", "ImportError: y"))

GRID = """\
name: quick
datasets: [digits]
encoders:
  - gaussian: {latent: 16, hidden: [64]}
decoders:
  - bernoulli: {hidden: [64]}
priors: [standard-normal]
estimators:
  - reparam
  - rloo[k=4]
  - iwae: {sweep: {k: [1, 5]}}
seeds: 3
train: {steps: 1000, batch: 100, optimizer: adam, lr: 1e-3}
measure:
  every: 500
  gradients: {draws: 100, batches: 4, at: shared}
  log_likelihood: {method: iwae, k: 500}
"""
