"""Values that others have published, read from ``published.csv`` in a study's folder.

One value a row, under a header. ``source``, ``metric`` and ``value`` are asked for; ``split`` (else ``test``),
``std_error``, ``unit`` and ``cells`` may be there; every other column is part of the setting, shown as it stands.
``cells`` says which cells of this study a value stands beside: ``column=value`` of the cells table, all of them, spaces
between (``prior=vamp encoder.latent=40``); a component is known by its name alone too. Where it is empty, none.
"""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vbench.grid.positions import nearest
from vbench.report.evidence import PUBLISHED, plain

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Published", "PublishedError", "matching", "read_published"]

_ASKED: Final = ("source", "metric", "value")
_KNOWN: Final = (*_ASKED, "split", "std_error", "unit", "cells")


class PublishedError(ValueError):
    """The file cannot be used; the message is one line with the place."""


@dataclass(frozen=True)
class Published:
    """One published value, its texts as they stand.

    Attributes:
        line: of the file.
        setting: columns that only tell, by name; empty ones left out.
        cells: what the cells beside it have, by column; None where there are none.
    """

    line: int
    source: str
    metric: str
    split: str
    value: str
    std_error: str
    unit: str
    setting: Mapping[str, str]
    cells: Mapping[str, str] | None


def read_published(text: str) -> list[Published]:
    """Every row of a file.

    Raises:
        PublishedError: the file cannot be used.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise _wrong(reader.line_num, str(error)) from None
    if not rows:
        raise PublishedError(f"{PUBLISHED}: it is empty")
    heads = [plain(head.strip().lstrip("\ufeff")) for head in rows[0][1]]
    for name in _ASKED:
        if name not in heads:
            raise _wrong(rows[0][0], f"no column {name!r}{nearest(name, heads)}")
    if twice := next((head for head in heads if heads.count(head) > 1), None):
        raise _wrong(rows[0][0], f"two columns {twice!r}")
    found = []
    for line, row in rows[1:]:
        if len(row) != len(heads):
            raise _wrong(line, f"{len(row)} values under {len(heads)} columns")
        found.append(_row(line, dict(zip(heads, (plain(value.strip()) for value in row), strict=True))))
    return found


def _row(line: int, given: Mapping[str, str]) -> Published:
    for name in _ASKED:
        if not given[name]:
            raise _wrong(line, f"no {name}")
    for name in ("value", "std_error"):
        if given.get(name) and not _finite(given[name]):
            raise _wrong(line, f"{name} {given[name]!r} is no number")
    return Published(
        line=line,
        split=given.get("split") or "test",
        std_error=given.get("std_error", ""),
        unit=given.get("unit", ""),
        setting={name: value for name, value in given.items() if name not in _KNOWN and value},
        cells=_terms(line, given.get("cells", "")),
        **{name: given[name] for name in _ASKED},
    )


def _terms(line: int, text: str) -> Mapping[str, str] | None:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise _wrong(line, f"cells: {error}") from None
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise _wrong(line, f"cells: {word!r} is no column=value")
    return dict(word.split("=", 1) for word in words) or None


def _finite(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def matching(value: Published, cells: DataFrame) -> tuple[list[int], str]:
    """The combinations of cells that a published value stands beside, in order; where there are none, why."""
    if value.cells is None:
        return [], "no cell of this study is meant"
    kept = cells
    for name, wanted in value.cells.items():
        if name not in cells:
            return [], f"no cell of this study has a column {name!r}{nearest(name, map(str, cells))}"
        kept = kept.loc[[_agrees(found, wanted) for found in kept[name]]]
    found = sorted({int(combination) for combination in kept["combination"]})
    return found, "" if found else "no cell of this study has these"


def _agrees(found: Any, wanted: str) -> bool:
    text = str(found)
    if wanted in (text, text.partition("[")[0]):
        return True
    try:
        return float(text) == float(wanted)
    except ValueError:
        return False


def _wrong(line: int, what: str) -> PublishedError:
    return PublishedError(f"{PUBLISHED} line {line}: {what}")
