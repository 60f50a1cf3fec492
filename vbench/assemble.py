"""From chosen components to objects: what fits, why something does not, and one cell's model, estimator and data."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn

from vbench.beside import beside
from vbench.catalogue import KINDS, Kind
from vbench.discovery import lacking
from vbench.grey import expected, levels_of
from vbench.grid import Choice, parse_choice
from vbench.listing import known_catalogue, load_catalogue
from vbench.model import Model
from vbench.registry import Registered, load_registry
from vbench.rng import derive
from vbench.types import Dataset, Encoder, Estimator, Incompatible, Natural, Space, Support, Trait

__all__ = [
    *("Built", "Fitting", "build", "build_choices", "build_estimator", "dataset", "load_dataset", "model_traits"),
    *("sample_part", "traits"),
]


class Built(NamedTuple):
    """One cell's objects, and everything that they and their data offer."""

    model: Model
    estimator: Estimator
    data: Dataset
    offers: frozenset[str] = frozenset()


@functools.lru_cache(maxsize=4)
def _dataset(factory: Callable[..., Dataset], parameters: str, folder: Path | None, files: object) -> Dataset:
    provided = {} if folder is None else {"folder": folder}
    return factory(**json.loads(parameters), **provided)


def load_dataset(choice: Choice) -> Dataset:
    """The dataset, loaded once per process."""
    registered = _registered("dataset", choice.name)
    folder = Path(beside().folder) if "folder" in registered.provided else None
    files = _files(folder, choice.parameters) if folder else ()
    return _dataset(registered.factory, json.dumps(choice.parameters), folder, files)


def dataset(text: str) -> Dataset:
    """A dataset by its name and parameters, as in a grid, loaded once per process.

    Raises:
        GridError: an unknown name or a wrong parameter.

    >>> dataset("bernoulli-bars[side=3]").x.shape
    (3, 3)
    """
    catalogue = known_catalogue()
    if catalogue.get("dataset", text.partition("[")[0].strip()) is None:
        catalogue = load_catalogue(strict=False)  # a cell's process may know of the cell's own parts alone
    return load_dataset(parse_choice(text, "dataset", catalogue, "dataset"))


def _files(folder: Path, parameters: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """What changes when a file does that the parameters name."""
    found = []
    for value in parameters.values():
        if isinstance(value, str):
            with contextlib.suppress(OSError, ValueError):
                stat = (folder / value).stat()
                found.append((stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def _registered(kind: Kind, name: str) -> Registered:
    """A component; no plugin is loaded but the one that brings it.

    Raises:
        Incompatible: the extra that it needs is not installed.
    """
    component = known_catalogue().get(kind, name)
    if component and (line := lacking(component.distribution, component.extra)):
        raise Incompatible(f"{kind} {name} {line}")
    return load_registry(component.distribution if component else None).get(kind, name)


def traits(data: Dataset) -> frozenset[str]:
    """What a dataset offers: its support, whether its data are images, and whether some of them is missing."""
    image = {Trait.IMAGE} if len(data.x.shape) == 2 else set()
    observed = Trait.MISSING if getattr(data, "masks", {}) else Trait.COMPLETE
    return frozenset({Trait.data(data.x.support), observed, *image})


def _latent_traits(z: Space) -> frozenset[str]:
    """What a latent offers: its support, and whether it is a hierarchy."""
    return frozenset({Trait.latent(z.support), *({Trait.LAYERS} if z.layers else ())})


def training_mean(data: Dataset) -> Tensor:
    """Mean of the training data as the parts see them, over what is drawn, ``[*X]``.

    Each entry's over the data in which it was observed; zero where it never was.
    """
    x = data.train
    if x.dtype == torch.uint8:
        x = expected(x, data.binarization, levels_of(data.x))
    mask = getattr(data, "masks", {}).get("train")
    if mask is None:
        return x.mean(0)
    seen = mask.bool()
    total: Tensor = torch.where(seen, x, 0).sum(0)  # what stands in padding may be no number
    count: Tensor = seen.sum(0).clamp(min=1)
    return total / count


def build_choices(choices: Mapping[Kind, Choice], seed: int) -> Built:
    """The objects of one cell, initialised from ``seed``; parts of one kind start the same whatever stands beside them.

    Raises:
        Incompatible: some part needs what no other offers.
    """
    data = load_dataset(choices["dataset"])
    task = _task(data)
    parts: dict[Kind, nn.Module] = {}

    def made(kind: Kind, registered: Registered, z: Space | None) -> _Said:
        given = task if z is None else task | {"z": z}
        parts[kind] = _make(registered, choices[kind], given, derive("init", kind, seed))
        return _said(kind, parts[kind])

    offers = _fitted(choices, data, made)
    model = Model(parts["encoder"], parts["decoder"], parts["prior"])  # type: ignore[arg-type]
    return Built(model, parts["estimator"], data, offers)  # type: ignore[arg-type]


class Fitting:
    """Which combinations go together: as :func:`build_choices` finds out, with each part built once for all of them."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Choice, Choice, Space | None], _Said | Incompatible] = {}

    def check(self, choices: Mapping[Kind, Choice]) -> frozenset[str]:
        """See that they do; returns what they offer together.

        Raises:
            Incompatible: some part needs what no other offers.
        """
        data = load_dataset(choices["dataset"])

        def made(kind: Kind, registered: Registered, z: Space | None) -> _Said:
            place = choices["dataset"], choices[kind], z
            if place not in self._seen:
                given = _task(data) if z is None else _task(data) | {"z": z}
                try:
                    self._seen[place] = _said(kind, _make(registered, choices[kind], given, derive("init", kind, 0)))
                except Incompatible as error:
                    self._seen[place] = error
            found = self._seen[place]
            if isinstance(found, Incompatible):
                raise Incompatible(*found.args)
            return found

        return _fitted(choices, data, made)


class _Said(NamedTuple):
    """What a part says of itself once it is built; ``z`` is an encoder's."""

    offers: frozenset[str]
    needs: frozenset[str]
    z: Space | None


def _said(kind: Kind, part: nn.Module) -> _Said:
    offers, needs = _offers(part), frozenset(getattr(part, "needs", ()))
    if any(parameter.requires_grad for parameter in part.parameters()):
        offers |= {Trait.trained(kind)}
    if kind != "encoder":
        return _Said(offers, needs, None)
    posterior = {Trait.POSTERIOR} if type(part).forward is not Encoder.forward else set()
    natural = {Trait.NATURAL} if isinstance(part, Natural) else set()
    return _Said(offers | posterior | natural, needs, part.z)  # type: ignore[arg-type]


def _fitted(
    choices: Mapping[Kind, Choice], data: Dataset, made: Callable[[Kind, Registered, Space | None], _Said]
) -> frozenset[str]:
    """What the parts offer together, each ``made`` when it is known to fit the task.

    Raises:
        Incompatible: some part needs what no other offers.
    """
    given = traits(data)  # what is known before anything is built
    parts: dict[Kind, _Said] = {}
    z: Space | None = None
    for kind in KINDS[1:]:
        registered = _registered(kind, choices[kind].name)
        _refuse(choices, kind, _declared(registered) & _task_traits() - given)
        parts[kind] = made(kind, registered, z if z is None or kind != "decoder" else z.bottom)
        if kind == "encoder":
            z = parts[kind].z
            given |= _latent_traits(z)  # type: ignore[arg-type]
    offers = given | _together(parts)
    for kind, part in parts.items():
        _refuse(choices, kind, part.needs - offers)
    return offers


def _together(parts: Mapping[Kind, _Said]) -> frozenset[str]:
    """What the parts of a model offer, and what the host adds for them."""
    mean = set() if Trait.AUTOREGRESSIVE in parts["decoder"].offers else {Trait.MEAN}
    independent = set() if Trait.POSTERIOR in parts["prior"].needs else {Trait.INDEPENDENT_PRIOR}
    return frozenset(mean | independent).union(*(part.offers for part in parts.values()))


def model_traits(model: Model) -> frozenset[str]:
    """Every trait that the parts of a model offer together, those among them that the host adds."""
    parts = {kind: _said(kind, model.get_submodule(kind)) for kind in KINDS[1:4]}
    return _latent_traits(model.encoder.z) | _together(parts)


def build_estimator(text: str, built: Built) -> Estimator:
    """Another estimator for the same model and data, as measures ask for one.

    Raises:
        Incompatible: it needs what these parts do not offer.
    """
    choice = parse_choice(text, "estimator", known_catalogue())
    task = _task(built.data) | {"z": built.model.encoder.z}
    made = _make(_registered("estimator", choice.name), choice, task, 0)
    if without := frozenset(getattr(made, "needs", ())) - built.offers:
        raise Incompatible(f"by {choice.name} needs {' and '.join(sorted(without))}, which is not offered")
    return made  # type: ignore[return-value]


def _task(data: Dataset) -> dict[str, Any]:
    """What factories may ask for by name, once the data are known."""
    name = f"{data.digest} {data.binarization}"
    if name not in _means:
        _means.clear()
        _means[name] = training_mean(data)
    return {"x": data.x, "n": len(data.train), "mean": _means[name], "data": data.train}


_means: dict[str, Tensor] = {}  # of the last dataset: a pass over all of it, wanted by every cell of a plan


def _offers(part: nn.Module) -> frozenset[str]:
    own = frozenset(getattr(part, "offers", ()))
    # a normalised density of the draws is itself a proper denominator
    return own | {Trait.PROPER_WEIGHT} if Trait.NORMALIZED in own else own


@functools.cache
def _task_traits() -> frozenset[str]:
    supports = get_args(Support)
    return frozenset(
        {
            *(Trait.IMAGE, Trait.LAYERS, Trait.COMPLETE, Trait.MISSING),
            *(*map(Trait.data, supports), *map(Trait.latent, supports)),
        }
    )


def _declared(registered: Registered) -> frozenset[str]:
    """Needs that a class states before it is built: a net for images must not be built for anything else."""
    needs: Any = getattr(registered.factory, "needs", frozenset())
    return needs if isinstance(needs, frozenset) else frozenset()


def _refuse(choices: Mapping[Kind, Choice], kind: Kind, missing: frozenset[str]) -> None:
    if missing:
        others = ", ".join(f"{other} {choices[other].name}" for other in KINDS if other not in (kind, "estimator"))
        raise Incompatible(
            f"{kind} {choices[kind].name} needs {' and '.join(sorted(missing))}, which is not offered by {others}"
        )


def _make(registered: Registered, choice: Choice, task: Mapping[str, Any], key: int) -> nn.Module:
    provided = {name: task[name] for name in registered.provided}
    with torch.random.fork_rng(devices=[]):
        # the first notes where it was called for each device that is not there: a tenth of a small cell
        (torch.manual_seed if torch.cuda.is_available() else torch.default_generator.manual_seed)(key)
        part: nn.Module = registered.factory(**choice.parameters, **provided)
    return part


def sample_part(kind: Kind, name: str) -> nn.Module | None:
    """A component with its default parameters, made for small data: to look at, not to run. None where it cannot be."""
    registered = load_registry().get(kind, name)
    if kind in ("dataset", "executor") or any(parameter.required for parameter in registered.component.parameters):
        return None
    parameters = {parameter.name: parameter.default for parameter in registered.component.parameters}
    choice = Choice(kind, name, {}, parameters)
    task: dict[str, Any] = {
        "x": Space((8, 8), "binary"),
        "n": 10,
        "mean": torch.zeros(8, 8),
        "data": torch.zeros(10, 8, 8),
    }
    for z in (Space((4,)), Space((4,), layers=(2, 2)), Space((4,), "binary"), Space((4, 3), "categorical")):
        try:
            return _make(registered, choice, task | {"z": z}, 0)
        except Exception:  # noqa: S112 - it may be made for another kind of latent
            continue
    return None


def build(*, dataset: str, encoder: str, decoder: str, prior: str, estimator: str, seed: int = 0) -> Built:
    """One cell's objects without running it: what a notebook starts from.

    Args:
        dataset, encoder, decoder, prior, estimator: ``"name"`` or ``"name[param=value]"``, as in a grid.
        seed: of the initial parameters.

    Returns:
        ``.model``, ``.estimator`` and ``.data``.

    Raises:
        GridError: an unknown name or a wrong parameter.
        Incompatible: these do not go together.

    >>> cell = build(dataset="digits", encoder="gaussian[latent=8]", decoder="bernoulli",
    ...              prior="standard-normal", estimator="iwae[k=5]")
    >>> cell.model.encoder.z.shape
    (8,)
    """
    texts: dict[Kind, str] = {
        "dataset": dataset,
        "encoder": encoder,
        "decoder": decoder,
        "prior": prior,
        "estimator": estimator,
    }
    catalogue = load_registry().catalogue()
    return build_choices(
        {kind: parse_choice(text, kind, catalogue, f"build({kind}=...)") for kind, text in texts.items()},
        seed,
    )
