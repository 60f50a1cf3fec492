"""The cells table: nested specs, facts and provenance as plain columns, each column of one type."""

from __future__ import annotations

import itertools
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["flatten", "frame"]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values; a list becomes JSON text.

    >>> dict(flatten({"encoder": {"latent": 8, "hidden": [64]}}))
    {'encoder.latent': 8, 'encoder.hidden': '[64]'}
    """
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value) if isinstance(value, list | tuple) else value


def frame(rows: Sequence[Mapping[str, Any]], names: Sequence[str], categories: Container[str]) -> DataFrame:
    """Rows as a DataFrame: ``names`` first, then every other name met; what a row lacks stays missing."""
    import pandas as pd

    columns = dict.fromkeys(itertools.chain(names, *rows))
    return pd.DataFrame({n: _series([row.get(n) for row in rows], n in categories) for n in columns})


def _series(values: list[Any], category: bool) -> Series[Any]:
    # A parameter may be a number in one cell and a word in another; a Parquet column has one type.
    import pandas as pd

    if category:
        return pd.Series(values, dtype="category")
    kinds = {type(value) for value in values if value is not None}
    holes = None in values
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean" if holes else "bool")
    if kinds == {int} and all(abs(value) < 2**63 for value in values if value is not None):
        return pd.Series(values, dtype="Int64" if holes else "int64")
    if kinds and kinds <= {int, float}:
        return pd.Series(values, dtype="float64")
    texts = [value if isinstance(value, str | None) else json.dumps(value) for value in values]
    return pd.Series(texts, dtype="str")
