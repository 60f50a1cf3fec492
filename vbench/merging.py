"""Result folders that become one: every attempt byte for byte, none twice, nothing overwritten.

A file is read against its own checksum, published whole, and read again; so a merge that was cut short goes on when it
is called again. Two attempts at one cell are both kept, numbered by when they started.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vbench import attempts, claims, store, verdicts
from vbench.catalogue import Catalogue
from vbench.grid import Grid, GridError, read_grid
from vbench.grid.crossing import AXES
from vbench.grid.parameters import canonical
from vbench.grid.settings import Measure, Train
from vbench.index import files
from vbench.records import Store, no_results

__all__ = ["Merged", "merge", "united"]

_BESIDE = ("references/checkpoints", "kept")  # folders of sealed files that records refer to
_MOST = 100_000  # cells whose absence is counted


@dataclass
class Merged:
    """What a merge came to.

    Attributes:
        copied, known: attempts that were copied now, and those that were there.
        damaged: files that were left out, with the reason.
        remarks: what a user must know, a line each.
    """

    copied: int = 0
    known: int = 0
    damaged: list[tuple[Path, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


class _Source(NamedTuple):
    """One attempt in one of the folders."""

    started: str
    study: int
    attempt: int
    path: Path


def merge(studies: Sequence[Path], into: Path, catalogue: Catalogue) -> Merged:
    """Make one results folder of several.

    Args:
        studies: results folders; what one has and another has too is taken from the first.
        into: the folder to be; the same call may be made again.
        catalogue: what is registered, to read their grids.

    Raises:
        GridError: a folder without results, or ``into`` is a study of its own.
        StoreError: a file cannot be written; the same call goes on from there.
    """
    for study in studies:
        if none := no_results(study):
            raise GridError([none])
        if study.resolve() == into.resolve():
            raise GridError([f"{into} is one of the studies: merge into a new folder"])
    done = Merged()
    grid = _grid(studies, into, catalogue, done)
    there = into / "grid.yaml"
    if there.exists() and (not grid or there.read_text("utf-8") != grid.source):
        raise GridError([f"{into} has a grid.yaml of its own: merge into a new folder, and name this one as a study"])
    for study in studies:
        if working := len(claims.living(study)):
            done.remarks.append(f"{study} is being worked on, {working} cells now: merge again when they have ended")
    origins = _attempts(studies, into, done)
    _attempts([study / "references" for study in studies], into / "references", done)
    for below in _BESIDE:
        _sealed(studies, into, below, done)
    for key, origin in origins.items():
        log = origin / "logs" / f"{key}.log"
        if log.is_file():
            _publish(log.read_bytes(), into / "logs" / log.name)
    for study in studies:
        if found := verdicts.load_verdicts(study):
            verdicts.save_verdicts(into, found)
    Store(into).compact()
    if grid and not there.exists():
        store.publish(grid.source.encode(), into, [there.name])
    return done


def _attempts(studies: Sequence[Path], into: Path, done: Merged) -> dict[str, Path]:
    """Copy all attempts; returns for each cell the study of its last one."""
    cells: dict[str, list[_Source]] = {}
    for number, study in enumerate(studies):
        for file in files(study / "records", done.damaged):
            try:
                outcome = attempts.read(file.path)
            except store.DamagedError as damage:
                done.damaged.append((file.path, str(damage)))
                continue
            cells.setdefault(outcome.key, []).append(_Source(outcome.started, number, outcome.attempt, file.path))
    several = 0
    for key in cells:
        found = cells[key] = _in_time(cells[key])
        folder = into / "records" / key[:2]
        there = {_digest(path.read_bytes()): path for path in folder.glob(f"{key}.*.parquet")}
        first = 1 + max((int(path.name.split(".")[1]) for path in there.values()), default=-1)
        apart: dict[int, set[str]] = {}
        for source in found:
            data = store.read(source.path)
            digest = _digest(data)
            apart.setdefault(source.study, set()).add(digest)
            if digest in there:
                done.known += 1
                continue
            path = store.publish(data, folder, (f"{key}.{number}.parquet" for number in itertools.count(first)))
            store.read(path)
            there[digest] = path
            done.copied += 1
        several += any(not (a <= b or b <= a) for a, b in itertools.combinations(apart.values(), 2))
    if several:
        what = "reference run" if into.name == "references" else "cell"
        count = f"{several} {what}{'s' * (several != 1)}"
        done.remarks.append(f"made in more than one study: {count}; all attempts are kept, the latest counts")
    return {key: studies[found[-1].study] for key, found in cells.items()}


def _in_time(found: Sequence[_Source]) -> list[_Source]:
    """By start; a clock that was set back does not change the order within one folder."""
    latest: dict[int, str] = {}
    placed = []
    for source in sorted(found, key=lambda source: (source.study, source.attempt)):
        latest[source.study] = max(source.started, latest.get(source.study, ""))
        placed.append((latest[source.study], source.study, source.attempt, source))
    return [source for *_, source in sorted(placed)]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sealed(studies: Sequence[Path], into: Path, below: str, done: Merged) -> None:
    """Copy the files below a folder; of two with one name the first stays."""
    clashes = 0
    for study in studies:
        for file in files(study / below, done.damaged):
            try:
                data = store.read(file.path)
            except store.DamagedError as damage:
                done.damaged.append((file.path, str(damage)))
                continue
            clashes += not _publish(data, into / below / file.path.relative_to(study / below))
    if clashes:
        done.remarks.append(f"{clashes} files in {below} differ between the studies: the first of each is kept")


def _publish(data: bytes, path: Path) -> bool:
    """Write a file unless it is there; whether it is these bytes now."""
    if not path.exists():
        with contextlib.suppress(FileExistsError):  # another merge was faster
            store.publish(data, path.parent, [path.name])
    return path.read_bytes() == data


def _grid(studies: Sequence[Path], into: Path, catalogue: Catalogue, done: Merged) -> Grid | None:
    """The grid of the whole, where there is one."""
    found = []
    for study in studies:
        try:
            found.append(read_grid(study / "grid.yaml", catalogue))
        except GridError as error:
            done.remarks.append(f"no grid.yaml is written: {str(error).splitlines()[0]}")
            return None
    whole = united(found, into.resolve().name, catalogue)
    if isinstance(whole, str):
        how = " ".join(f"vbench run {study / 'grid.yaml'} --set name={into.resolve().name};" for study in studies)
        done.remarks.append(f"no grid.yaml is written: {whole}; to go on: {how.rstrip(';')}")
        return None
    if whole.size <= _MOST and (new := whole.size - len(set(itertools.chain(*(_places(g, whole) for g in found))))):
        done.remarks.append(f"grid.yaml crosses all of it: {new} of its {whole.size} cells are in no study's grid")
    return whole


def united(grids: Sequence[Grid], name: str, catalogue: Catalogue) -> Grid | str:
    """The smallest grid that has every cell of several; why there is none where they are trained or measured apart.

    Raises:
        GridError: the name is none for a folder.
    """
    content: dict[str, Any] = {"name": name}
    for axis in AXES.values():
        choices = dict.fromkeys(choice for grid in grids for choice in getattr(grid, axis))
        content[axis] = [str(choice) for choice in choices]
    content["seeds"] = list(dict.fromkeys(seed for grid in grids for seed in grid.seeds))
    train = _trains(list(dict.fromkeys(train for grid in grids for train in grid.trains)))
    measure = _measures(list(dict.fromkeys(measure for grid in grids for measure in grid.measures)))
    if train is None or measure is None:
        return f"the studies {'train' if train is None else 'measure'} in ways that no one grid crosses"
    whole = read_grid(content | {"train": train, "measure": measure}, catalogue)
    if not all(_holds(whole, grid) for grid in grids):
        return "the studies measure in ways that no one grid crosses"
    return whole


def _trains(found: Sequence[Train]) -> dict[str, Any] | None:
    dumps = [train.model_dump() for train in found]
    differing = [name for name in Train.model_fields if len({canonical(d.get(name)) for d in dumps}) > 1]
    if {"inner", "budget"} & {*differing}:
        return None
    sweep = {name: list({canonical(d.get(name)): d.get(name) for d in dumps}.values()) for name in differing}
    common = {name: value for name, value in dumps[0].items() if name not in sweep}
    return common | ({"sweep": sweep} if sweep else {})


def _measures(found: Sequence[Measure]) -> dict[str, Any] | None:
    """As a grid writes it: several references are a list."""
    dumps = [measure.model_dump(exclude_defaults=True) for measure in found]
    references = []
    for dump, measure in zip(dumps, found, strict=True):
        if measure.gradients and measure.gradients.reference:
            dump["gradients"]["reference"] = measure.gradients.reference.model_dump()
            references.append(dump["gradients"].pop("reference"))
            dump["gradients"]["checkpoints"] = list(measure.gradients.checkpoints)
    if len({canonical(dump) for dump in dumps}) > 1:
        return None
    if references:
        dumps[0]["gradients"]["reference"] = references if len(references) > 1 else references[0]
    return dumps[0]


def _axes(grid: Grid) -> dict[str, list[Any]]:
    """What it crosses, as what can be compared."""
    axes: dict[str, list[Any]] = {
        axis: [canonical([choice.name, choice.parameters]) for choice in getattr(grid, axis)] for axis in AXES.values()
    }
    return axes | {"trains": list(grid.trains), "measures": list(grid.measures), "seeds": list(grid.seeds)}


def _holds(whole: Grid, part: Grid) -> bool:
    every = _axes(whole)
    return all(item in every[axis] for axis, items in _axes(part).items() for item in items)


def _places(part: Grid, whole: Grid) -> Iterator[tuple[int, ...]]:
    """Where the cells of a part stand in the whole."""
    every = _axes(whole)
    return itertools.product(*([every[axis].index(item) for item in items] for axis, items in _axes(part).items()))
