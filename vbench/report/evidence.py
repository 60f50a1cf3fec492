"""What a report is made of: a study's records and cells, and how its combinations are named and counted."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vbench.report.ends import aligned
from vbench.report.estimand import estimand
from vbench.report.selection import is_layer
from vbench.report.settings import settings_of
from vbench.report.summary import AXES, GROUP_FIELDS, MODEL_AXES

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["PUBLISHED", "Evidence", "Study", "evidence", "plain", "read_evidence", "short_names"]

Study = "str | Path | tuple[DataFrame, DataFrame] | Evidence"
"""A study's folder, or its frames ``(records, cells)`` as :func:`vbench.load` gives them, filtered as one likes."""

PUBLISHED: Final = "published.csv"
"""The file in a study's folder of what others have published."""

_SOURCE: Final = ("metric", "split", "part")
_PICTURED: Final = "sample_mmd_squared"  # what is measured of all samples that are drawn
_MEASURED: Final = ("cell", "seed", "step", "value", "std_error", "n", "unit")

# what a terminal, a picture or a page would obey instead of show
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def plain(text: Any) -> str:
    """Text without control characters and changes of direction: each becomes the replacement sign."""
    return _UNSEEN.sub("\ufffd", str(text))


@dataclass(frozen=True)
class Evidence:
    """Records and cells of one study, with what every figure of it shares.

    Attributes:
        name: of the study.
        records: rows of the cells below, aligned where seeds of one combination ended at different steps.
        cells: one row per cell, with more columns: ``settings`` (how it was trained and measured, as far as cells of
            one crossing differ in it), ``combination`` (a number for each crossing of the axes and settings, seeds
            apart), ``panel`` and ``series`` (what it is called in figures), ``estimand``, and ``stale`` (the reason,
            empty where current).
        damaged: names of files that were left out.
        published: text of the file of published values; None where there is none.
        folder: where it was read from; None of frames, which hold no pictures.
    """

    name: str
    records: DataFrame
    cells: DataFrame
    damaged: tuple[str, ...] = ()
    published: str | None = None
    folder: Path | None = None

    @functools.cached_property
    def asked(self) -> DataFrame:
        """The cells that could run."""
        return self.cells[self.cells["status"] != "skipped"]

    @functools.cached_property
    def varying(self) -> tuple[str, ...]:
        """Axes that have more than one value among the cells that could run."""
        return tuple(axis for axis in AXES if len(self.asked[axis].unique()) > 1)

    @functools.cached_property
    def common(self) -> dict[str, str]:
        """Axes with one value, shown once."""
        rest = [axis for axis in AXES if axis not in self.varying and len(self.asked)]
        return {axis: value for axis in rest if (value := plain(self.asked[axis].iloc[0]))}

    @functools.cached_property
    def series(self) -> tuple[str, ...]:
        """Every estimator (with its training setting, where that varies) of the study, in the order of the colours."""
        return tuple(sorted(set(self.asked["series"]), key=_natural))

    @functools.cached_property
    def stale(self) -> frozenset[str]:
        """Keys of the asked cells whose code has changed since."""
        return frozenset(self.asked.loc[self.asked["stale"] != "", "cell"])

    @functools.cached_property
    def pictures(self) -> dict[str, dict[str, bytes]]:
        """PNG files by their names, for each cell that has some."""
        from vbench.records import Store

        drawn = set(self.records.loc[self.records["metric"] == _PICTURED, "cell"])
        found = Store(self.folder).pictures(drawn) if self.folder and drawn else {}
        return {cell: each for cell, each in found.items() if each}

    @functools.cached_property
    def _joined(self) -> DataFrame:
        """Every row of the records beside what names its cell."""
        names = ["cell", "status", "combination", "panel", "series", "estimand", "stale"]
        rows: DataFrame = self.records[[*_SOURCE, *_MEASURED]].merge(self.asked[names], on="cell")
        return rows.sort_values(["combination", "seed", "step"])

    @functools.cached_property
    def _places(self) -> Mapping[Any, Any]:
        """Which rows are of one metric, split and part."""
        return self._joined.groupby(list(_SOURCE), observed=True, sort=False).indices

    def rows(self, metric: str, split: str, part: str) -> DataFrame:
        """One row per cell and step of one metric: columns of the records, and of the cells what names them."""
        found: DataFrame = self._joined.iloc[self._places.get((metric, split, part), [])]
        return found.drop(columns=list(_SOURCE)).reset_index(drop=True)

    def parts(self, metric: str) -> list[str]:
        """Parts of the model that a metric was measured for: ``all`` only where it stands alone."""
        found = {part for part in self._parts(metric) if not is_layer(part)}
        return sorted(found - {"all"} or found, key=lambda part: (_place(part), part))

    def layers(self, metric: str) -> list[str]:
        """Layers that a metric was measured for, part by part, in the order of their records."""
        return sorted((part for part in self._parts(metric) if is_layer(part)), key=lambda part: _place(part))

    def _parts(self, metric: str) -> list[str]:
        return [plain(part) for part in self.records.loc[self.records["metric"] == metric, "part"].unique()]

    def counts(self) -> dict[str, int]:
        """Cells by status."""
        return {str(status): int(count) for status, count in self.cells["status"].value_counts().items() if count}


def evidence(study: Any) -> Evidence:
    """A study as figures take it.

    Args:
        study: a results folder, the frames ``(records, cells)``, or what this returned before.

    Raises:
        FileNotFoundError: the folder holds no results.
        TypeError: something else.
    """
    if isinstance(study, Evidence):
        return study
    if isinstance(study, str | Path):
        return read_evidence(study)
    if isinstance(study, tuple) and len(study) == 2 and all(hasattr(frame, "columns") for frame in study):
        return _named(*study)
    raise TypeError("expected a study's folder, or its frames (records, cells): records alone hide what failed")


def read_evidence(folder: str | Path) -> Evidence:
    """Read a study's folder.

    Raises:
        FileNotFoundError: it holds no results.
    """
    from vbench.provenance import code_digest
    from vbench.records import Store, no_results
    from vbench.report.staleness import stale_reasons

    store = Store(folder)
    if none := no_results(store.folder):
        raise FileNotFoundError(none + _hint(store.folder))
    records, cells = store.records(), store.cells()
    reasons = stale_reasons(store.outcomes().values(), code_digest())
    found = _named(records, cells.assign(stale=[reasons[key] for key in cells["cell"]]))
    damaged = tuple(plain(path.name) for path, _ in store.damaged)
    published, folder = _published(store.folder), store.folder
    return replace(found, name=plain(store.study), damaged=damaged, published=published, folder=folder)


def _published(folder: Path) -> str | None:
    try:
        return (folder / PUBLISHED).read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def _hint(folder: Path) -> str:
    """The nearest study beside the one asked for."""
    for root in (folder.parent, Path("results")):
        names = [path.parent.name for path in root.glob("*/records")]
        near = difflib.get_close_matches(folder.name, names, n=1)
        if near:
            return f"; did you mean {root / near[0]}?"
    return ""


def _named(records: DataFrame, cells: DataFrame) -> Evidence:
    if "stale" not in cells:
        cells = cells.assign(stale="")
    for column in ("bound", "k", "target"):
        if column not in cells:
            cells = cells.assign(**{column: None})
    texts = cells[list(AXES)].astype("str")
    short = {axis: short_names(texts.loc[cells["status"] != "skipped", axis].unique()) for axis in AXES}
    varying = [axis for axis in AXES if len(short[axis]) > 1]
    panels = [axis for axis in varying if axis in MODEL_AXES]
    settings = settings_of(cells).map(plain)
    claims = zip(texts["estimator"], cells["bound"], cells["k"], cells["target"], strict=True)
    cells = cells.assign(
        cell=cells["cell"].astype("str"),
        status=cells["status"].astype("str"),
        settings=settings,
        combination=texts.assign(settings=settings).groupby(list(GROUP_FIELDS), sort=True).ngroup(),
        panel=_joined(texts.assign(settings=settings), [*panels, "settings"], short),
        series=_joined(texts, ["estimator", *(["train"] if "train" in varying else [])], {}),
        estimand=[_estimand(*claim) for claim in claims],
    )
    records = aligned(records.assign(cell=records["cell"].astype("str")), cells, cells["combination"])
    name = plain(cells["study"].iloc[0]) if len(cells) and "study" in cells else ""
    return Evidence(name, records[records["cell"].isin(cells["cell"])], cells)


def _estimand(estimator: str, bound: Any, k: Any, target: Any) -> str:
    """As :func:`estimand`; an estimator that claims nothing stands alone."""
    import pandas as pd

    claim, other = (text if isinstance(text, str) else "" for text in (bound, target))
    found = estimand(claim, None if pd.isna(k) else int(k), other)
    return plain(found or f"{estimator}: no bound declared")


def _place(part: str) -> int:
    """Of a part, or of a layer's, in the order of a model."""
    return {"encoder": 0, "decoder": 1, "prior": 2}.get(part.split(".")[0], 3)


def short_names(values: Iterable[str]) -> dict[str, str]:
    """Each value by its name alone where the names tell the values apart, else in full.

    >>> short_names(["iwae[k=5]", "reparam"]), short_names(["iwae[k=5]", "iwae[k=1]"])
    ({'iwae[k=5]': 'iwae', 'reparam': 'reparam'}, {'iwae[k=5]': 'iwae[k=5]', 'iwae[k=1]': 'iwae[k=1]'})
    """
    values = list(values)
    names = [value.partition("[")[0] for value in values]
    return dict(zip(values, names if len(set(names)) == len(names) else values, strict=True))


def _joined(texts: DataFrame, axes: Iterable[str], short: Mapping[str, Mapping[str, str]]) -> Series[str]:
    """The values of some axes in one text."""
    import pandas as pd

    columns = [[_named_value(axis, short.get(axis, {}).get(text, text)) for text in texts[axis]] for axis in axes]
    joined = [", ".join(filter(None, row)) for row in zip(*columns, strict=True)] if columns else [""] * len(texts)
    return pd.Series(joined, index=texts.index, dtype="str")


def _named_value(axis: str, text: str) -> str:
    return plain(f"{axis} {text}" if axis in MODEL_AXES[1:] else text)


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Order in which k=10 follows k=9."""
    return [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in re.split(r"(\d+)", text)]
