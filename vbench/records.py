"""The folder that keeps a study's results, and its two tables.

``results/<study>/records/`` holds one immutable Parquet file per attempt at a cell; everything else is rebuilt from
these files.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vbench import cells, store, verdicts
from vbench.attempts import (
    SCHEMA_VERSION,
    STATUSES,
    Outcome,
    Row,
    packed,
    read,
    read_outcome,
    read_pictures,
    read_values,
    schema,
    text_of,
    wrong,
)
from vbench.index import File, Index, files

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from pandas import DataFrame

__all__ = ["SCHEMA_VERSION", "STATUSES", "Outcome", "Row", "Store", "load", "no_results", "wrong"]


class Store:
    """The results of one study. Any number of processes may commit to it at once.

    Args:
        folder: ``results/<study>``; made at the first commit.

    Attributes:
        damaged: the files that the last reading left out, with the reason.
        seen: names of the files that it found.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.study = self.folder.resolve().name
        self.damaged: list[tuple[Path, str]] = []
        self.seen: set[str] = set()
        self._known: dict[File, Outcome] = {}  # of files that have been read, as they were
        self._index: Index | None = None

    def commit(
        self,
        outcome: Outcome,
        rows: Iterable[Row] = (),
        values: Mapping[str, Iterable[float]] | None = None,
        pictures: Mapping[str, bytes] | None = None,
    ) -> Path:
        """Keep one attempt, durably and whole, under the next free attempt number; returns its file.

        Args:
            outcome: what became of it.
            rows: its measurements.
            values: of single data, in their order, by split and metric: ``test log_likelihood``.
            pictures: PNG files by their names.
        """
        data = packed(self.study, outcome, rows, values, pictures)
        names = (f"{outcome.key}.{attempt}.parquet" for attempt in itertools.count())
        folder = self.folder / "records" / outcome.key[:2]
        return store.publish(data, folder, names)

    def outcomes(self) -> dict[str, Outcome]:
        """The attempt that counts for each key: the latest by the latest code, a done one before one that is not."""
        return {key: attempt.outcome for key, attempt in _best(self._attempts()).items()}

    def names(self) -> list[str]:
        """The names of all files that are there now."""
        return [file.name for file in files(self.folder / "records", [])]

    def attempts(self, key: str) -> list[Outcome]:
        """Every attempt at one cell, the first one first, without a look at other cells."""
        found = []
        for path in (self.folder / "records" / key[:2]).glob(f"{key}.*.parquet"):
            with contextlib.suppress(store.DamagedError):
                found.append(read(path))
        return sorted(found, key=lambda outcome: outcome.attempt)

    def records(self) -> DataFrame:
        """The rows of the attempts that count."""
        import pandas as pd
        import pyarrow as pa

        table = _joined(_best(self._attempts()).values())
        frame: DataFrame = table.drop_columns("n").to_pandas()
        counts = table["n"].to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
        frame.insert(len(frame.columns) - 1, "n", counts)
        return frame

    def cells(self) -> DataFrame:
        """One row per cell: what identifies it, its status, then a column per parameter, fact and source.

        ``judged`` is the judge's verdict on the estimator, by the code of the cell: see ``vbench check --study``.
        """
        return self._cells(self.outcomes().values())

    def _cells(self, outcomes: Iterable[Outcome]) -> DataFrame:
        found = verdicts.load_verdicts(self.folder)
        rows = [cells.row(self.study, o) | {"judged": verdicts.beside(found, o.spec, o.provenance)} for o in outcomes]
        return cells.frame(rows)

    def values(self) -> dict[str, dict[str, NDArray[np.float32]]]:
        """For each key, the values of single data that its attempt keeps, in single precision."""
        return {key: read_values(attempt.file.path) for key, attempt in _best(self._attempts()).items()}

    def pictures(self, keys: Container[str]) -> dict[str, dict[str, bytes]]:
        """For each of these keys, the pictures that its attempt keeps: PNG files by their names."""
        best = _best(self._attempts())
        return {key: read_pictures(attempt.file.path) for key, attempt in best.items() if key in keys}

    def compact(self) -> dict[str, Outcome]:
        """Write ``cells.parquet``, for other tools, and the index; both can be made again from the records.

        Returns:
            :meth:`outcomes`.
        """
        import io

        index = self._indexed()
        attempts = list(self._attempts(index))
        target = self.folder / "cells.parquet"
        best = _best(attempts)
        outcomes = {key: attempt.outcome for key, attempt in best.items()}
        if index.is_of([attempt.file for attempt in attempts]) and target.exists():
            return outcomes
        counting = best.values()
        pieces = [attempt.rows() for attempt in counting]
        ends = [0, *itertools.accumulate(piece.num_rows for piece in pieces)]
        places = {a.file: place for a, place in zip(counting, itertools.pairwise(ends), strict=True)}
        index.write(((a.file, text_of(a.outcome), *places.get(a.file, (-1, 0))) for a in attempts), _concat(pieces))
        buffer = io.BytesIO()
        self._cells(outcomes.values()).to_parquet(buffer, compression="zstd", index=False)
        store.replace(buffer.getvalue(), target)
        return outcomes

    def sweep(self) -> int:
        """Remove what killed writers left behind; returns how many files."""
        return store.sweep(self.folder)

    def verify(self) -> list[tuple[Path, str]]:
        """Read every file anew; returns those that are not what was committed, each with the reason."""
        self._known.clear()
        for _ in self._attempts(Index(Path(os.devnull))):
            pass
        return self.damaged

    def set_aside(self) -> list[Path]:
        """Move the damaged files that the last reading found to ``damaged/``: their cells then count as not run.

        A file that may be whole stays: of another version, by another hand, or out of reach for now.
        """
        moved = []
        for path, _ in self.damaged:
            try:
                read(path)
            except store.StrangeError:
                continue
            except store.DamagedError:
                moved.append(store.set_aside(path, self.folder / "damaged"))
        return [path for path in moved if path]

    def _attempts(self, index: Index | None = None) -> Iterator[_Attempt]:
        """Every attempt that can be read, from the index where that knows its file."""
        index = index or self._indexed()
        self.damaged, self.seen = [], set()
        for file in files(self.folder / "records", self.damaged):
            self.seen.add(file.name)
            if file not in self._known and index.known(file) is None:
                try:
                    self._known[file] = read(file.path)
                except store.DamagedError as damage:
                    self.damaged.append((file.path, str(damage)))
                    continue
            yield _Attempt(file, index, self._known)

    def _indexed(self) -> Index:
        """The index as it is now, read once."""
        found = Index(self.folder)
        if self._index is None or self._index.stamp != found.stamp:
            self._index = found
        return self._index


class _Attempt(NamedTuple):
    """One attempt and where its rows are; what the index knows of it is parsed when it is asked for."""

    file: File
    cache: Index
    known: dict[File, Outcome]

    @property
    def key(self) -> str:
        """Of its cell."""
        return self.file.name.partition(".")[0]

    @property
    def outcome(self) -> Outcome:
        """What became of it."""
        found = self.known.get(self.file)
        if found is None:
            entry: Any = self.cache.known(self.file)
            found = self.known[self.file] = read_outcome(self.file.path, entry.outcome)
        return found

    @property
    def place(self) -> tuple[int, int] | None:
        """Start and stop of its rows among the index's; None where they must be read from its file."""
        entry = self.cache.known(self.file)
        if entry is None or entry.start < 0 or self.cache.rows is None:
            return None
        return entry.start, entry.stop

    def rows(self) -> pa.Table:
        import pyarrow.parquet as pq

        if self.place and self.cache.rows is not None:
            return self.cache.rows.slice(self.place[0], self.place[1] - self.place[0])
        return pq.ParquetFile(self.file.path).read()


def _best(attempts: Iterable[_Attempt]) -> dict[str, _Attempt]:
    """The attempt that counts for each key."""
    best: dict[str, _Attempt] = {}
    for attempt in attempts:
        other = best.setdefault(attempt.key, attempt)
        if other is not attempt and _counts(attempt.outcome, other.outcome):
            best[attempt.key] = attempt
    return best


def _joined(attempts: Iterable[_Attempt]) -> pa.Table:
    """Their rows; neighbours in the index in one piece."""
    pieces: list[pa.Table] = []
    start = stop = 0
    rows = None
    for attempt in attempts:
        place = attempt.place
        if place and place[0] == stop and rows is not None:
            stop = place[1]
            continue
        if rows is not None:
            pieces.append(rows.slice(start, stop - start))
        rows = attempt.cache.rows if place else None
        start, stop = place or (0, 0)
        if not place:
            pieces.append(attempt.rows())
    return _concat([*pieces, rows.slice(start, stop - start)] if rows is not None else pieces)


def _concat(pieces: Sequence[pa.Table]) -> pa.Table:
    import pyarrow as pa

    empty = schema().empty_table()
    return pa.concat_tables([empty, *(piece.replace_schema_metadata(None) for piece in pieces)]).unify_dictionaries()


def no_results(study: Path) -> str:
    """One line to say so where a folder holds no results; empty where it does."""
    if (study / "records").is_dir():
        return ""
    return f"no results in {study} (a study's folder has a folder 'records')"


def load(study: str | Path, table: str = "records", columns: Sequence[str] = ()) -> DataFrame:
    """The results of a study as a pandas DataFrame.

    Args:
        study: its folder, ``results/<study>``.
        table: ``records``, one row per measurement, or ``cells``, one row per cell.
        columns: columns of the cells table to join onto the records (``["status", "estimator.k"]``).

    Raises:
        FileNotFoundError: the folder holds no results.
        ValueError: an unknown table or column.
    """
    kept = Store(study)
    if none := no_results(kept.folder):
        raise FileNotFoundError(none)
    if table not in ("records", "cells"):
        raise ValueError(f"unknown table {table!r}; one of records, cells")
    frame = kept.cells() if table == "cells" else kept.records()
    if kept.damaged:
        names = ", ".join(path.name for path, _ in kept.damaged)
        warnings.warn(f"damaged files left out, {len(kept.damaged)}: {names}", stacklevel=2)
    return frame if table == "cells" or not columns else _join(frame, kept.cells(), columns)


def _join(frame: DataFrame, other: DataFrame, columns: Sequence[str]) -> DataFrame:
    import pandas as pd

    places = pd.Index(other["cell"]).get_indexer(pd.Index(frame["cell"].astype("str")))
    for name in columns:
        if name not in other:
            near = difflib.get_close_matches(name, other.columns, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"no column {name!r} in the cells table{hint}")
        frame[name] = other[name].take(places).array
    return frame


def _counts(attempt: Outcome, other: Outcome) -> bool:
    """Whether an attempt counts rather than another at the same cell: the done one, of two by the same code."""
    if _code(attempt) == _code(other) and (attempt.status == "done") != (other.status == "done"):
        return attempt.status == "done"
    return attempt.attempt > other.attempt


def _code(outcome: Outcome) -> tuple[Any, Any]:
    return outcome.provenance.get("code"), outcome.provenance.get("plugins")
