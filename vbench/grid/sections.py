"""What stands under ``train`` and ``measure``, read into their settings."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, get_type_hints

from annotated_types import Ge

from vbench.catalogue import Catalogue, Parameter
from vbench.grid.choices import parameter_of, read_choices
from vbench.grid.positions import Node, Problems
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
    Settings,
    Train,
    log_spaced,
)
from vbench.grid.values import Values, read_values

__all__ = ["read_measure", "read_measures", "read_trains"]


@functools.cache
def _parameters(model: type[Settings]) -> tuple[Parameter, ...]:
    """The model's own fields as parameters, those that are read apart left out."""
    hints = get_type_hints(model, include_extras=True)
    return tuple(
        parameter_of(name, hints[name], info.default, required=False)
        for name, info in model.model_fields.items()
        if name not in (*_NESTED, *_SHARED, *_APART) and (model, name) != (Reference, "patience")
    )


_NESTED: Mapping[str, type[Settings]] = {
    "gradients": Gradients,
    "log_likelihood": LogLikelihood,
    "ais": AIS,
    "inference_gap": InferenceGap,
    "sample_quality": SampleQuality,
}
_APART = ("inner", "budget")
_TARGET_DRAWS = 1000
_SHARED = ("reference", "checkpoints")  # with `at: shared` alone
_CHECKPOINTS = parameter_of(
    "checkpoints",
    Annotated[int, Ge(2), "how many log-spaced steps of the reference run, or which"]
    | list[Annotated[int, Ge(0)]]
    | None,
    None,
    required=False,
)


def read_trains(node: Node, path: str, problems: Problems) -> tuple[list[Train], tuple[str, ...]]:
    """Every crossing under ``train``, and the names that its sweep crosses, in the order of the fields."""
    values = read_values(node, _parameters(Train), path, problems, keys=(*_APART, "sweep"))
    swept = tuple(name for name in Train.model_fields if name in values.swept)
    _check_falls(values, node, path, problems)
    entries: Mapping[str, Node] = node.value if isinstance(node.value, dict) else {}
    inner = None
    if "inner" in entries and entries["inner"].value is not None:
        inner = Inner(**read_values(entries["inner"], _parameters(Inner), f"{path}.inner", problems).given)
    budget = _read_budget(entries, f"{path}.budget", problems)
    if budget and ("steps" in values.given or "steps" in swept):
        problems.add(entries["budget"].at, f"{path}.budget", "expected a budget or steps, both are given")
        return [Train()], swept
    return [Train(**given, inner=inner, budget=budget) for given in values.crossed()], swept


def _read_budget(entries: Mapping[str, Node], path: str, problems: Problems) -> Budget | None:
    node, before = entries.get("budget"), len(problems)
    if node is None or node.value is None:
        return None
    given = {n: v for n, v in read_values(node, _parameters(Budget), path, problems).given.items() if v is not None}
    if len(problems) > before or node.broken:
        return None
    if len(given) != 1:
        problems.add(node.place, path, f"expected evaluations or seconds, {'not both' if given else 'one of them'}")
        return None
    return Budget(**given)


def _check_falls(values: Values, node: Node, path: str, problems: Problems, default: str = "constant") -> None:
    """What only a schedule of steps reads stands beside none but that."""
    schedules = values.swept.get("schedule", [values.given.get("schedule", default)])
    if "step" in schedules:
        return
    for name in ("step_size", "gamma"):
        for entries in _mappings(node):
            if name in entries:
                problems.add(entries[name].at, f"{path}.{name}", "only with schedule: step")


def _mappings(node: Node) -> list[Mapping[str, Node]]:
    """The node's own entries and those of its sweep."""
    own: Mapping[str, Node] = node.value if isinstance(node.value, dict) else {}
    swept = own["sweep"].value if "sweep" in own else {}
    return [own, swept if isinstance(swept, dict) else {}]


def read_measure(
    node: Node,
    catalogue: Catalogue,
    path: str,
    problems: Problems,
    trains: Sequence[Train] = (),
    swept: Sequence[str] = (),
) -> Measure:
    """What stands under ``measure``; an empty mapping below it asks for the defaults.

    Args:
        node: what stands there.
        catalogue: what is registered.
        path: of the node.
        problems: where problems go.
        trains: the grid's; a reference run is trained as they all are.
        swept: in what they differ; there a reference has the default.
    """
    given = dict(read_values(node, _parameters(Measure), path, problems, keys=tuple(_NESTED)).given)
    entries: Mapping[str, Node] = node.value if isinstance(node.value, dict) else {}
    common = trains[0].model_dump(exclude={*swept, "budget", "patience"}) if trains else {}
    for name, model in _NESTED.items():
        if name in entries and (inner := entries[name]).value is not None:
            keys = _SHARED if model is Gradients else ()
            values = dict(read_values(inner, _parameters(model), f"{path}.{name}", problems, keys=keys).given)
            if model is Gradients:
                values |= _read_target(values, inner, catalogue, f"{path}.{name}", problems)
                values |= _read_shared(values, inner, catalogue, f"{path}.{name}", problems, given.get("every"), common)
            if model is LogLikelihood:
                values |= _read_rungs(values, inner, f"{path}.{name}", problems)
                _check_method(values, inner, catalogue, f"{path}.{name}", problems)
            given[name] = model(**values)
    return Measure(**given)


def _read_rungs(values: Mapping[str, Any], node: Node, path: str, problems: Problems) -> dict[str, Any]:
    """Several k in one spelling: smallest first, none twice, and one alone no list."""
    k = values.get("k")
    if not isinstance(k, list):
        return {}
    rungs = tuple(sorted(set(k)))
    if values.get("method", "iwae") != "iwae" or not rungs:
        wrong = "no k is there" if not rungs else f"{values['method']} takes one k; several are importance sampling's"
        problems.add(node.value["k"].place, f"{path}.k", wrong)
    return {"k": rungs if len(rungs) > 1 else (*rungs, 1)[0]}


def _check_method(values: dict[str, Any], node: Node, catalogue: Catalogue, path: str, problems: Problems) -> None:
    """Write the estimator out in full, at the k that is asked for."""
    if values.get("method", "iwae") == "iwae":
        return
    place = node.value["method"].place
    for found in read_choices(Node(values["method"], place), "estimator", catalogue, f"{path}.method", problems)[:1]:
        if "k" not in found.parameters:
            problems.add(place, f"{path}.method", f"{found.name} has no k")
        k = values.get("k", LogLikelihood.model_fields["k"].default)
        values["method"] = replace(found, parameters={**found.parameters, "k": k}).full


def read_measures(
    node: Node,
    catalogue: Catalogue,
    path: str,
    problems: Problems,
    trains: Sequence[Train] = (),
    swept: Sequence[str] = (),
) -> list[Measure]:
    """As :func:`read_measure`, once for each of several references in a list."""
    found = []
    for one in _each_reference(node):
        before = len(problems)
        found.append(read_measure(one, catalogue, path, problems, trains, swept))
        if len(problems) > before:  # the rest would say the same again
            break
    return found


def _each_reference(node: Node) -> list[Node]:
    """The node with each of the references that it lists."""
    gradients: Node | None = node.value.get("gradients") if isinstance(node.value, dict) else None
    if gradients is None or not isinstance(gradients.value, dict):
        return [node]
    references = gradients.value.get("reference")
    if references is None or not isinstance(references.value, list) or not references.value:
        return [node]
    alone = [replace(gradients, value={**gradients.value, "reference": item}) for item in references.value]
    return [replace(node, value={**node.value, "gradients": one}) for one in alone]


def _read_shared(
    values: Mapping[str, Any],
    node: Node,
    catalogue: Catalogue,
    path: str,
    problems: Problems,
    every: int | None,
    common: Mapping[str, Any],
) -> dict[str, Any]:
    """The reference run and its checkpoints, all of it said, so that its spelling does not change a cell's key."""
    entries: Mapping[str, Node] = node.value if isinstance(node.value, dict) else {}
    if values.get("at") != "shared":
        for name in _SHARED:
            if name in entries and entries[name].value is not None:
                problems.add(entries[name].place, f"{path}.{name}", "only with at: shared")
        return {}
    nothing = Node(None, node.place)
    reference = _reference(entries.get("reference", nothing), catalogue, f"{path}.reference", problems, common)
    steps = entries.get("checkpoints", nothing)
    written = read_values(Node({"checkpoints": steps}, node.place), (_CHECKPOINTS,), path, problems).given
    wanted, last = written.get("checkpoints"), reference.steps
    if isinstance(wanted, int):
        found = log_spaced(wanted, last)
    else:
        found = tuple(sorted({0, last, *(Measure(every=every).steps(last) if wanted is None else wanted)}))
    if found[-1] > last:
        problems.add(steps.place, f"{path}.checkpoints", f"{found[-1]} is beyond the reference's last step, {last}")
    return {"reference": reference, "checkpoints": found, "batch": values.get("batch") or reference.batch}


def _read_target(
    values: Mapping[str, Any], node: Node, catalogue: Catalogue, path: str, problems: Problems
) -> dict[str, Any]:
    """The target written out in full, and its draws."""
    text, draws = values.get("target"), values.get("target_draws")
    if text is None or text in EXACT_TARGETS:
        if draws is not None:
            problems.add(node.value["target_draws"].place, f"{path}.target_draws", "only with an estimator as target")
        return {}
    place = node.value["target"].place
    found = read_choices(Node(text, place), "estimator", catalogue, f"{path}.target", problems)
    return {"target": found[0].full if found else None, "target_draws": draws or _TARGET_DRAWS}


def _reference(node: Node, catalogue: Catalogue, path: str, problems: Problems, common: Mapping[str, Any]) -> Reference:
    """An estimator's text, or a mapping of it and of what is trained in another way than the grid's cells."""
    where = f"{path}.estimator"
    if isinstance(node.value, str):
        node, where = Node({"estimator": node}, node.place), path
    values = read_values(node, _parameters(Reference), path, problems)
    _check_falls(values, node, path, problems, common.get("schedule", "constant"))
    given = dict(values.given)
    if given.get("estimator") is not None:
        place = node.value["estimator"].place
        found = read_choices(Node(given["estimator"], place), "estimator", catalogue, where, problems)
        given["estimator"] = found[0].full if found else None
    return Reference(**{**common, **given})
