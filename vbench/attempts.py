"""One attempt at a cell: its rows, its outcome, and the one file that holds both.

The rows are a Parquet table, the outcome stands in the file's metadata. An attempt that failed or was skipped may have
no rows.
"""

from __future__ import annotations

import base64
import json
import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vbench import store
from vbench.grid.crossing import SCHEMA_VERSION
from vbench.index import sealed

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = [
    "LABELS",
    "SCHEMA_VERSION",
    "STATUSES",
    "Outcome",
    "Row",
    "packed",
    "read",
    "read_outcome",
    "read_pictures",
    "read_values",
    "schema",
    "text_of",
    "wrong",
]

STATUSES: Final = ("done", "diverged", "failed", "timeout", "oom", "crashed", "interrupted", "skipped")
LABELS: Final = ("dataset", "encoder", "decoder", "prior", "train", "estimator")

_NAMED = ("dataset", "encoder", "decoder", "prior", "estimator", "train")
_NUMBERS = {"seed": "int64", "step": "int64", "value": "float64", "std_error": "float64", "n": "int64"}
_VALUES: Final = "vbench.values"
_PICTURES: Final = "vbench.pictures"
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

    @property
    def name(self) -> str:
        """What the cell is, for people."""
        return " ".join(filter(None, [*(self.labels.get(label, "") for label in _NAMED), f"seed={self.seed}"]))

    def has(self, word: str) -> bool:
        """Whether a word means this cell: first digits of its key, its status, ``seed=0``, or a part of its name."""
        name, equals, value = word.partition("=")
        if equals and name == "seed":
            return value == str(self.seed)
        return self.key.startswith(word) or word == self.status or word in self.name


def schema() -> pa.Schema:
    """The columns of every file and of the records table."""
    import pyarrow as pa

    names = ("study", "cell", *LABELS, "seed", *Row._fields)
    words = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([(n, pa.type_for_alias(_NUMBERS[n]) if n in _NUMBERS else words) for n in names])


def _table(study: str, outcome: Outcome, rows: list[Row]) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [row[i] for row in rows] for i, name in enumerate(Row._fields)}
    same = {"study": study, "cell": outcome.key, "seed": outcome.seed}
    same |= {label: outcome.labels.get(label, "") for label in LABELS}
    columns |= {name: [value] * len(rows) for name, value in same.items()}
    return pa.table({f.name: pa.array(columns[f.name], type=f.type) for f in schema()})


def packed(
    study: str,
    outcome: Outcome,
    rows: Iterable[Row],
    values: Mapping[str, Iterable[float]] | None = None,
    pictures: Mapping[str, bytes] | None = None,
) -> bytes:
    """The file of one attempt; ``values`` of single data, in single precision, and pictures stand in its metadata.

    Raises:
        TypeError: a value cannot be recorded.
    """
    table = _table(study, outcome, [_checked(row) for row in rows])
    metadata = {"vbench.schema": str(SCHEMA_VERSION), "vbench.outcome": text_of(outcome)}
    if values:
        metadata[_VALUES] = json.dumps({name: _encoded(each) for name, each in values.items()})
    if pictures:
        metadata[_PICTURES] = json.dumps({n: base64.b64encode(each).decode() for n, each in pictures.items()})
    return sealed(table, metadata)


def _encoded(values: Iterable[float]) -> str:
    import numpy as np

    return base64.b64encode(np.asarray([*values], "<f4").tobytes()).decode()


def read_values(path: Path) -> dict[str, NDArray[np.float32]]:
    """The values of single data that the file of an attempt keeps, by split and metric: ``test log_likelihood``."""
    import numpy as np

    return {name: np.frombuffer(each, "<f4") for name, each in _kept(path, _VALUES).items()}


def read_pictures(path: Path) -> dict[str, bytes]:
    """The pictures that the file of an attempt keeps, PNG files by their names."""
    return _kept(path, _PICTURES)


def _kept(path: Path, where: str) -> dict[str, bytes]:
    """What one entry of a file's metadata holds, by name."""
    import pyarrow.parquet as pq

    kept = json.loads(pq.read_metadata(path).metadata.get(where.encode(), b"{}"))
    return {name: base64.b64decode(text) for name, text in kept.items()}


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


def text_of(outcome: Outcome) -> str:
    """As JSON."""
    record = {name: getattr(outcome, name) for name in Outcome.__dataclass_fields__ if name != "attempt"}
    return json.dumps(record, default=_plain)


def read(path: Path) -> Outcome:
    """What the file of an attempt says of it.

    Raises:
        DamagedError: it is not what was committed, or nothing that this vbench reads.
    """
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
    return read_outcome(path, text)


def read_outcome(path: Path, text: str | bytes) -> Outcome:
    """What a file of this name says of itself."""
    name = _FILE.fullmatch(path.name)
    try:
        outcome = Outcome(**json.loads(text), attempt=int(name[2]) if name else 0)
    except (TypeError, ValueError) as problem:
        raise store.StrangeError(f"not a result of this vbench: {problem}") from problem
    if name is None or outcome.key != name[1]:
        raise store.DamagedError(f"renamed: it holds cell {outcome.key}")
    return outcome
