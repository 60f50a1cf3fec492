"""A grid's cells and their keys: what is crossed, in which order, and what makes two cells one."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Final, TypeVar

from vbench.beside import Beside
from vbench.catalogue import KINDS, Kind
from vbench.grid.choices import Choice, format_value, parse_text, split_top
from vbench.grid.parameters import canonical
from vbench.grid.positions import GridError, nearest
from vbench.grid.settings import Measure, Train

__all__ = ["AXES", "SCHEMA_VERSION", "Cell", "Grid", "cell_from_spec"]

SCHEMA_VERSION: Final = 1
AXES: Final[Mapping[Kind, str]] = {kind: f"{kind}s" for kind in KINDS}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination with its seed.

    Attributes:
        swept: names of ``train`` that the grid crosses; they tell its cells apart and change nothing else.
    """

    dataset: Choice
    encoder: Choice
    decoder: Choice
    prior: Choice
    estimator: Choice
    seed: int
    train: Train
    measure: Measure
    swept: tuple[str, ...] = ()

    def choices(self) -> dict[Kind, Choice]:
        """The components by kind."""
        return {
            "dataset": self.dataset,
            "encoder": self.encoder,
            "decoder": self.decoder,
            "prior": self.prior,
            "estimator": self.estimator,
        }

    def spec(self) -> dict[str, Any]:
        """All that a result may depend on, typed and complete, as JSON has it."""
        components: dict[str, Any] = {
            kind: {"name": choice.name, "parameters": dict(choice.parameters)}
            for kind, choice in self.choices().items()
        }
        settings = {"train": self.train.model_dump(), "measure": self.measure.model_dump()}
        return {**components, "seed": self.seed, **settings}

    def key(self, digest: str, **more: str) -> str:
        """32 hexadecimal digits that name this cell's result, whatever the grid, its spelling or the machine.

        Args:
            digest: of the data.
            more: what else tells results apart (the role of the run, the device).
        """
        return _hashed(self._content(digest, more))

    def keys(self, digest: str, *, reference: bool = False, **more: str) -> Callable[..., str]:
        """The same for many seeds: a function of seed and, where it is asked for, ``reference``."""
        seed, other = 8_051_937_462_115_083_629, "8051937462115083629"  # whatever stands nowhere else
        text = replace(self, seed=seed)._content(digest, more | ({"reference": other} if reference else {}))
        quoted, bare = f'"reference":"{other}"', f'"seed":{seed}'
        pieces = text.replace(quoted, "").replace(bare, "")
        if other in pieces:  # of all numbers a user wrote this one
            return lambda seed, **rest: replace(self, seed=seed).key(digest, **more, **(rest if reference else {}))
        return lambda seed, reference="": _hashed(
            text.replace(quoted, f'"reference":"{reference}"').replace(bare, f'"seed":{seed}')
        )

    def _content(self, digest: str, more: Mapping[str, str]) -> str:
        """The canonical text of all that the key is of, put together from pieces that many cells share."""
        pieces: dict[str, str] = {kind: choice.content for kind, choice in self.choices().items()}
        pieces |= {"seed": str(self.seed), "train": _settled(self.train), "measure": _settled(self.measure)}
        content = {"schema": str(SCHEMA_VERSION), "spec": _joined(pieces), "data": canonical(digest)}
        if clash := content.keys() & more.keys():
            raise TypeError(f"{', '.join(sorted(clash))} already stands in the key")
        return _joined({**content, **{name: canonical(text) for name, text in more.items()}})

    def labels(self) -> dict[str, str]:
        """The columns that name a cell: choices as written, and of ``train`` what the grid crosses."""
        train = _assignments(self.train, self.swept)
        return {**{kind: str(choice) for kind, choice in self.choices().items()}, "train": " ".join(train)}


@functools.lru_cache(maxsize=4096)
def _settled(settings: Train | Measure) -> str:
    return canonical(settings.model_dump())


def _joined(pieces: Mapping[str, str]) -> str:
    """A JSON object of canonical pieces, itself canonical."""
    return "{" + ",".join(f'"{name}":{pieces[name]}' for name in sorted(pieces)) + "}"


def _hashed(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _assignments(train: Train, swept: Sequence[str]) -> list[str]:
    return [f"{name}={format_value(getattr(train, name))}" for name in swept]


def cell_from_spec(spec: Mapping[str, Any], labels: Mapping[str, str]) -> Cell:
    """The cell that wrote ``spec()`` and ``labels()``, also after a trip through JSON."""
    choices: dict[str, Choice] = {}
    for kind in KINDS:
        parameters = dict(spec[kind]["parameters"])
        _, written = parse_text(labels[kind])
        choices[kind] = Choice(kind, spec[kind]["name"], {name: parameters[name] for name in written}, parameters)
    swept = [part.partition("=")[0] for part in labels["train"].split()]
    return Cell(
        **choices,
        seed=spec["seed"],
        train=Train.model_validate(spec["train"]),
        measure=Measure.model_validate_json(canonical(spec["measure"])),  # JSON: a list for a tuple, nothing else
        swept=tuple(swept),
    )


def _unique(items: Sequence[T], key: Any) -> tuple[T, ...]:
    found: dict[Any, T] = {}
    for item in items:
        found.setdefault(key(item), item)
    return tuple(found.values())


@dataclass(frozen=True)
class Grid:
    """What is crossed. Entries that mean the same stand once, in the first spelling.

    Attributes:
        measures: one for each reference run; they differ in nothing else.
        source: the text to keep beside the results; reading it again gives this grid.
        swept: names of ``train`` that are crossed.
        beside: its folder, and the plugin files that it names.
    """

    name: str
    datasets: tuple[Choice, ...]
    encoders: tuple[Choice, ...]
    decoders: tuple[Choice, ...]
    priors: tuple[Choice, ...]
    estimators: tuple[Choice, ...]
    seeds: tuple[int, ...]
    trains: tuple[Train, ...]
    measures: tuple[Measure, ...]
    source: str = ""
    swept: tuple[str, ...] = ()
    beside: Beside = field(default_factory=Beside, compare=False)

    def __post_init__(self) -> None:
        for axis in AXES.values():
            entries = _unique(getattr(self, axis), lambda choice: (choice.name, canonical(choice.parameters)))
            object.__setattr__(self, axis, entries)
        object.__setattr__(self, "trains", _unique(self.trains, lambda train: train))
        object.__setattr__(self, "measures", _unique(self.measures, lambda measure: measure))
        object.__setattr__(self, "seeds", tuple(dict.fromkeys(self.seeds)))

    @property
    def measure(self) -> Measure:
        """What is measured, at the first reference."""
        return self.measures[0]

    @property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """What is crossed, the outermost first."""
        choices: dict[str, tuple[Any, ...]] = {kind: getattr(self, axis) for kind, axis in AXES.items()}
        estimators = choices.pop("estimator")
        references = {"reference": self.measures} if len(self.measures) > 1 else {}
        return {**choices, "train": self.trains, **references, "estimator": estimators, "seed": self.seeds}

    @property
    def size(self) -> int:
        """Number of cells."""
        return math.prod(map(len, self.axes.values()))

    def cells(self) -> Iterator[Cell]:
        """Every cell, one at a time, seeds fastest."""
        axes = self.axes
        for values in itertools.product(*axes.values()):
            found = dict(zip(axes, values, strict=True))
            measure = found.pop("reference", self.measure)
            yield Cell(**found, measure=measure, swept=self.swept)

    def filtered(self, filters: Sequence[str]) -> Grid:
        """The part of the grid that every filter lets through.

        Args:
            filters: ``axis=pattern,...``, such as ``estimator=iwae*,rloo`` or ``seed=0``; ``*`` and ``?`` are
                wild, and a pattern without parameters matches a component's name.

        Raises:
            GridError: an unknown axis, or a pattern that matches nothing.
        """
        kept, lines = self.axes, []
        for text in filters:
            axis, equals, rest = text.partition("=")
            axis = axis.strip()
            if axis not in kept or not equals:
                known = ", ".join(kept)
                lines.append(f"{text}: expected axis=pattern, with an axis of {known}{nearest(axis, kept)}")
                continue
            patterns = split_top(rest) or [rest.strip()]
            for pattern in patterns:
                if not any(self._matches(item, pattern) for item in self.axes[axis]):
                    lines.append(f"{text}: no {axis} of this grid matches {pattern!r} ({self._listing(axis)})")
            kept[axis] = tuple(item for item in kept[axis] if any(self._matches(item, pattern) for pattern in patterns))
        if not lines and not all(kept.values()):
            lines = [f"{' '.join(filters)}: no cell of this grid passes all of these"]
        if lines:
            raise GridError(lines)
        fields: dict[str, Any] = {AXES[kind]: kept[kind] for kind in KINDS}
        measures = kept.get("reference", self.measures)
        return replace(self, **fields, trains=kept["train"], measures=measures, seeds=kept["seed"])

    def _texts(self, item: Any) -> tuple[str, ...]:
        if isinstance(item, Choice):
            return str(item), item.name
        if isinstance(item, Train):
            parts = _assignments(item, self.swept)
            return " ".join(parts), *parts
        if isinstance(item, Measure):
            reference = item.gradients.reference if item.gradients else None
            full = (reference and reference.estimator) or "default"
            return full, full.partition("[")[0]
        return (str(item),)

    def _matches(self, item: Any, pattern: str) -> bool:
        # brackets hold parameters here, never sets of letters
        globs = [spelling.replace("[", "[[]") for spelling in (pattern, pattern.replace(" ", ""))]
        return any(fnmatchcase(text, glob) for text in self._texts(item) for glob in globs)

    def _listing(self, axis: str) -> str:
        texts = [self._texts(item)[0] for item in self.axes[axis][:6]]
        return ", ".join(texts) + (", ..." if len(self.axes[axis]) > 6 else "")
