"""The one schema of results, and the folder that keeps them.

``results/<study>/records/`` holds one immutable Parquet file per attempt at a cell: its rows, and in the
file's metadata its outcome. An attempt that failed or was skipped is a file without rows. Everything else is
rebuilt from these files.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import json
import operator
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vbench import cells, store, verdicts
from vbench.grid.crossing import SCHEMA_VERSION
from vbench.index import Entry, File, Index, files, sealed

if TYPE_CHECKING:
    import pyarrow as pa
    from pandas import DataFrame

__all__ = ["SCHEMA_VERSION", "STATUSES", "Outcome", "Row", "Store", "load", "wrong"]

STATUSES: Final = ("done", "diverged", "failed", "timeout", "oom", "crashed", "interrupted", "skipped")

_LABELS = ("dataset", "encoder", "decoder", "prior", "train", "estimator")
_CELL = ("study", "cell", *_LABELS, "seed", "status", "reason", "attempt", "plugins", "started")
_CATEGORIES = ("study", *_LABELS, "status", "plugins")
_NUMBERS = {"seed": "int64", "step": "int64", "value": "float64", "std_error": "float64", "n": "int64"}
_KEY = re.compile(r"[0-9A-Za-z_-]{3,128}")
_FILE = re.compile(rf"({_KEY.pattern})\.(0|[1-9]\d*)\.parquet")


class Row(NamedTuple):
    """One measurement; ``n`` is the number of draws or data behind ``value``."""

    step: int
    split: str
    metric: str
    part: str
    value: float
    std_error: float | None
    n: int | None
    unit: str


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt at a cell. All of it is JSON.

    Attributes:
        key: the cell's key.
        status: one of ``STATUSES``.
        reason: why it is not done, in one line.
        labels: the canonical strings of dataset, encoder, decoder, prior, estimator and train.
        seed: the cell's seed.
        spec: the typed spec, nested; each leaf becomes a column of the cells table (``train.lr``), each of a
            part's ``parameters`` one beside its name (``encoder.name``, ``encoder.latent``).
        facts: scalars, a column each (``bound``, ``seconds``, ``evaluations``, ``stale``, ...).
        provenance: ``plugins`` (a list of ``name``, ``version``, ``digest``), code digest, environment.
        traceback: of the exception, when there was one.
        attempt: its number; the store gives it.
        started: ISO time.
    """

    key: str
    status: str
    reason: str
    labels: Mapping[str, str]
    seed: int
    spec: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    traceback: str = ""
    attempt: int = 0
    started: str = ""

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ValueError(f"a cell's key is 3 to 128 letters, digits, _ or -, not {self.key!r}")
        if self.status not in STATUSES:
            raise ValueError(f"unknown status {self.status!r}; one of {', '.join(STATUSES)}")


class Store:
    """The results of one study. Any number of processes may commit to it at once.

    Args:
        folder: ``results/<study>``; made at the first commit.

    Attributes:
        damaged: the files that the last reading left out, with the reason.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.study = self.folder.resolve().name
        self.damaged: list[tuple[Path, str]] = []

    def commit(self, outcome: Outcome, rows: Iterable[Row] = ()) -> Path:
        """Keep one attempt, durably and whole, under the next free attempt number; returns its file."""
        table = _table(self.study, outcome, [_checked(row) for row in rows])
        metadata = {"vbench.schema": str(SCHEMA_VERSION), "vbench.outcome": _text(outcome)}
        names = (f"{outcome.key}.{attempt}.parquet" for attempt in itertools.count())
        folder = self.folder / "records" / outcome.key[:2]
        return store.publish(sealed(table, metadata), folder, names)

    def outcomes(self) -> dict[str, Outcome]:
        """The attempt that counts for each key: the latest by the latest code, a done one before one that is not."""
        return {key: attempt.outcome for key, attempt in _best(self._attempts()).items()}

    def names(self) -> list[str]:
        """The names of all files that are there now."""
        return [file.path.name for file in files(self.folder / "records", [])]

    def attempts(self, key: str) -> list[Outcome]:
        """Every attempt at one cell, the first one first, without a look at other cells."""
        found = []
        for path in (self.folder / "records" / key[:2]).glob(f"{key}.*.parquet"):
            with contextlib.suppress(store.DamagedError):
                found.append(_read(path))
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
        rows = [_cell(self.study, o) | {"judged": verdicts.beside(found, o.spec, o.provenance)} for o in outcomes]
        return cells.frame(rows, _CELL, _CATEGORIES)

    def compact(self) -> None:
        """Write ``cells.parquet``, for other tools, and the index; both can be made again from the records."""
        import io

        index = Index(self.folder)
        attempts = list(self._attempts(index))
        target = self.folder / "cells.parquet"
        if index.is_of([attempt.file for attempt in attempts]) and target.exists():
            return
        counting = _best(attempts).values()
        pieces = [attempt.rows() for attempt in counting]
        ends = [0, *itertools.accumulate(piece.num_rows for piece in pieces)]
        places = {a.file: place for a, place in zip(counting, itertools.pairwise(ends), strict=True)}
        index.write(((a.file, _text(a.outcome), *places.get(a.file, (-1, 0))) for a in attempts), _concat(pieces))
        buffer = io.BytesIO()
        self._cells(attempt.outcome for attempt in counting).to_parquet(buffer, compression="zstd", index=False)
        store.replace(buffer.getvalue(), target)

    def sweep(self) -> int:
        """Remove what killed writers left behind; returns how many files."""
        return store.sweep(self.folder)

    def verify(self) -> list[tuple[Path, str]]:
        """Read every file anew; returns those that are not what was committed, each with the reason."""
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
                _read(path)
            except store.StrangeError:
                continue
            except store.DamagedError:
                moved.append(store.set_aside(path, self.folder / "damaged"))
        return [path for path in moved if path]

    def _attempts(self, index: Index | None = None) -> Iterator[_Attempt]:
        """Every attempt that can be read, from the index where that knows its file."""
        index = index or Index(self.folder)
        self.damaged = []
        for file in files(self.folder / "records", self.damaged):
            entry = index.known(file)
            try:
                outcome = _read(file.path) if entry is None else _outcome(file.path, entry.outcome)
            except store.DamagedError as damage:
                self.damaged.append((file.path, str(damage)))
                continue
            yield _Attempt(outcome, file, index, entry)


class _Attempt(NamedTuple):
    """One attempt and where its rows are."""

    outcome: Outcome
    file: File
    cache: Index
    entry: Entry | None

    @property
    def place(self) -> tuple[int, int] | None:
        """Start and stop of its rows among the index's; None where they must be read from its file."""
        if self.entry is None or self.entry.start < 0 or self.cache.rows is None:
            return None
        return self.entry.start, self.entry.stop

    def rows(self) -> pa.Table:
        import pyarrow.parquet as pq

        if self.place and self.cache.rows is not None:
            return self.cache.rows.slice(self.place[0], self.place[1] - self.place[0])
        return pq.ParquetFile(self.file.path).read()


def _best(attempts: Iterable[_Attempt]) -> dict[str, _Attempt]:
    """The attempt that counts for each key."""
    best: dict[str, _Attempt] = {}
    for attempt in attempts:
        key = attempt.outcome.key
        if key not in best or _counts(attempt.outcome, best[key].outcome):
            best[key] = attempt
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

    empty = _schema().empty_table()
    return pa.concat_tables([empty, *(piece.replace_schema_metadata(None) for piece in pieces)]).unify_dictionaries()


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
    if not (kept.folder / "records").is_dir():
        raise FileNotFoundError(f"no results in {kept.folder} (a study's folder has a folder 'records')")
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


def _schema() -> pa.Schema:
    import pyarrow as pa

    names = ("study", "cell", *_LABELS, "seed", *Row._fields)
    words = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([(n, pa.type_for_alias(_NUMBERS[n]) if n in _NUMBERS else words) for n in names])


def _table(study: str, outcome: Outcome, rows: list[Row]) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [row[i] for row in rows] for i, name in enumerate(Row._fields)}
    same = {"study": study, "cell": outcome.key, "seed": outcome.seed}
    same |= {label: outcome.labels.get(label, "") for label in _LABELS}
    columns |= {name: [value] * len(rows) for name, value in same.items()}
    return pa.table({f.name: pa.array(columns[f.name], type=f.type) for f in _schema()})


def wrong(row: Row) -> str:
    """Why a row cannot be recorded; empty where it can."""
    try:
        _checked(row)
    except TypeError as problem:
        return str(problem)
    return ""


def _checked(row: Row) -> Row:
    """The row as the schema has it: a plugin may report anything, and is told which metric was wrong."""
    try:
        step, n = operator.index(row.step), None if row.n is None else operator.index(row.n)
        if max(abs(step), abs(n or 0)) >= 2**63:
            raise ValueError("an integer beyond 64 bits")
        "".join((row.split, row.metric, row.part, row.unit)).encode()
        std_error = None if row.std_error is None else _float(row.std_error)
        return row._replace(step=step, value=_float(row.value), std_error=std_error, n=n)
    except (TypeError, ValueError, OverflowError, RuntimeError) as problem:
        raise TypeError(f"metric {row.metric!r} cannot be recorded: {problem}") from problem


def _float(value: Any) -> float:
    detach = getattr(value, "detach", None)  # of a tensor that carries a gradient
    return float(detach() if detach else value)


def _plain(value: Any) -> Any:
    if callable(getattr(value, "item", None)):  # a NumPy or torch scalar
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r} cannot be recorded")


def _text(outcome: Outcome) -> str:
    record = {name: getattr(outcome, name) for name in Outcome.__dataclass_fields__ if name != "attempt"}
    return json.dumps(record, default=_plain)


def _read(path: Path) -> Outcome:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not _FILE.fullmatch(path.name):
        raise store.StrangeError("not a result: its name is not KEY.ATTEMPT.parquet")
    data = store.read(path)
    try:
        metadata = pq.read_metadata(pa.BufferReader(data)).metadata
        version = int(metadata[b"vbench.schema"])
        text = metadata[b"vbench.outcome"]
    except (KeyError, TypeError, ValueError, pa.ArrowException) as problem:
        raise store.StrangeError(f"not a result of this vbench: {problem}") from problem
    if version != SCHEMA_VERSION:
        raise store.StrangeError(f"written with schema {version}; this vbench reads {SCHEMA_VERSION}")
    return _outcome(path, text)


def _outcome(path: Path, text: str | bytes) -> Outcome:
    """What a file of this name says of itself."""
    name = _FILE.fullmatch(path.name)
    try:
        outcome = Outcome(**json.loads(text), attempt=int(name[2]) if name else 0)
    except (TypeError, ValueError) as problem:
        raise store.StrangeError(f"not a result of this vbench: {problem}") from problem
    if name is None or outcome.key != name[1]:
        raise store.DamagedError(f"renamed: it holds cell {outcome.key}")
    return outcome


def _counts(attempt: Outcome, other: Outcome) -> bool:
    """Whether an attempt counts rather than another at the same cell: the done one, of two by the same code."""
    if _code(attempt) == _code(other) and (attempt.status == "done") != (other.status == "done"):
        return attempt.status == "done"
    return attempt.attempt > other.attempt


def _code(outcome: Outcome) -> tuple[Any, Any]:
    return outcome.provenance.get("code"), outcome.provenance.get("plugins")


def _cell(study: str, outcome: Outcome) -> dict[str, Any]:
    plugins = ", ".join(f"{p['name']}=={p['version']}" for p in outcome.provenance.get("plugins", ()))
    fixed = {"study": study, "cell": outcome.key, "seed": outcome.seed, "plugins": plugins}
    fixed |= {label: outcome.labels.get(label, "") for label in _LABELS}
    fixed |= {name: getattr(outcome, name) for name in ("status", "reason", "attempt", "started")}
    trees = (_lifted(outcome.spec), outcome.facts, outcome.provenance)
    return dict(itertools.chain(*map(cells.flatten, trees))) | fixed


def _lifted(spec: Mapping[str, Any]) -> dict[str, Any]:
    """``{"encoder": {"name": ..., "parameters": {"latent": 8}}}`` gives the column ``encoder.latent``."""
    lifted = {}
    for kind, part in spec.items():
        inner = part.get("parameters") if isinstance(part, Mapping) else None
        lifted[kind] = {"name": part.get("name"), **inner} if isinstance(inner, Mapping) else part
    return lifted
