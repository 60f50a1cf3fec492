"""The cells table: nested specs, facts and provenance as plain columns, each column of one type."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vbench.attempts import LABELS, Outcome
from vbench.grid.settings import UNTOLD

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["flatten", "frame", "row"]

_FIRST = ("study", "cell", *LABELS, "seed", "status", "reason", "attempt", "plugins", "started")
_IDLE = {f"train.{name}": value for name, value in UNTOLD.items()}
_CATEGORIES = ("study", *LABELS, "status", "plugins")


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


def frame(rows: Sequence[Mapping[str, Any]]) -> DataFrame:
    """Rows as a DataFrame: what every cell has first, then every other name met.

    What a row lacks stays missing, but for training settings that a spec leaves out where they do nothing: a
    ``groupby`` by the schedule of the learning rate would lose the cells that have none.
    """
    import pandas as pd

    columns = dict.fromkeys(itertools.chain(_FIRST, *rows))
    return pd.DataFrame({n: _series([row.get(n, _IDLE.get(n)) for row in rows], n in _CATEGORIES) for n in columns})


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


def row(study: str, outcome: Outcome) -> dict[str, Any]:
    """One cell: what identifies it, its status, and every parameter, fact and source by its dotted name."""
    plugins = ", ".join(f"{p['name']}=={p['version']}" for p in outcome.provenance.get("plugins", ()))
    fixed = {"study": study, "cell": outcome.key, "seed": outcome.seed, "plugins": plugins}
    fixed |= {label: outcome.labels.get(label, "") for label in LABELS}
    fixed |= {name: getattr(outcome, name) for name in ("status", "reason", "attempt", "started")}
    trees = (_lifted(outcome.spec), outcome.facts, outcome.provenance)
    return dict(itertools.chain(*map(flatten, trees))) | fixed


def _lifted(spec: Mapping[str, Any]) -> dict[str, Any]:
    """``{"encoder": {"name": ..., "parameters": {"latent": 8}}}`` gives the column ``encoder.latent``."""
    lifted = {}
    for kind, part in spec.items():
        inner = part.get("parameters") if isinstance(part, Mapping) else None
        lifted[kind] = {"name": part.get("name"), **inner} if isinstance(inner, Mapping) else part
    return lifted
