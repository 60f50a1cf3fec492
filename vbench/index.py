"""What was read from record files before, so that ten thousand of them need not be opened for every look.

``results/<study>/.cache/`` holds two sealed files: ``index.parquet``, the outcome of every attempt beside size and time
of its file, and ``records.parquet``, the rows of those that count, which names the index that it goes with. Nothing is
lost with them: a file that the index does not know as it is now is read itself, and both are written again when a run
ends.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vbench import store
from vbench.grid.crossing import SCHEMA_VERSION

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Entry", "File", "Index", "files", "sealed"]

_INDEX_KEY = "vbench.index"


class File(NamedTuple):
    """A file as a folder lists it; ``size`` and ``modified`` (nanoseconds) change when it does."""

    place: str  # text: a path takes longer to make and to hash than all else that a listing costs
    size: int
    modified: int

    @property
    def path(self) -> Path:
        """Where it is."""
        return Path(self.place)

    @property
    def name(self) -> str:
        """Its last part."""
        return os.path.basename(self.place)  # noqa: PTH119


class Entry(NamedTuple):
    """What is known of one attempt's file.

    Attributes:
        size, modified: of the file when it was read.
        outcome: as JSON.
        start, stop: where its rows stand among those kept; start is -1 where they are not.
    """

    size: int
    modified: int
    outcome: str
    start: int
    stop: int


def files(folder: Path, problems: list[tuple[Path, str]]) -> Iterator[File]:
    """Every visible file below ``folder``, sorted; what cannot be listed is added to ``problems``."""
    try:
        with os.scandir(folder) as listing:
            found = sorted(listing, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append((folder, f"unreadable: {error.strerror}"))
        return
    for entry in found:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from files(folder / entry.name, problems)
            continue
        with contextlib.suppress(FileNotFoundError):  # moved meanwhile
            stat = entry.stat(follow_symlinks=False)
            yield File(entry.path, stat.st_size, stat.st_mtime_ns)


class Index:
    """The index of one study; empty where there is none, or none that can be trusted.

    Attributes:
        stamp: changes when its files do.
    """

    def __init__(self, study: Path) -> None:
        self.study = study
        self.folder = study / ".cache"
        self.stamp = tuple(map(_stamp, (self.folder / "index.parquet", self.folder / "records.parquet")))

    @functools.cached_property
    def entries(self) -> Mapping[str, Entry]:
        """By the file's path below ``records``."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            data = store.read(self.folder / "index.parquet")
            table = pq.ParquetFile(pa.BufferReader(data)).read()  # read_table would load pandas
            if table.schema.metadata[_INDEX_KEY.encode()] != str(SCHEMA_VERSION).encode():
                return {}
            columns = [table[name].to_pylist() for name in ("file", *Entry._fields)]
        except (store.DamagedError, KeyError, TypeError, pa.ArrowException):
            return {}
        self._digest = hashlib.sha256(data).hexdigest()
        return {name: Entry(*values) for name, *values in zip(*columns, strict=True)}

    @functools.cached_property
    def _packed(self) -> bytes | None:
        """The file of the rows; None where it does not go with the entries."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self.entries:
            return None
        try:
            data = store.read(self.folder / "records.parquet")
            known: bytes = pq.read_metadata(pa.BufferReader(data)).metadata[_INDEX_KEY.encode()]
        except (store.DamagedError, KeyError, TypeError, pa.ArrowException):
            return None
        return data if known == self._digest.encode() else None

    @functools.cached_property
    def rows(self) -> pa.Table | None:
        """The rows of the attempts that counted; None where they do not go with the entries."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        return pq.ParquetFile(pa.BufferReader(self._packed)).read() if self._packed is not None else None

    def known(self, file: File) -> Entry | None:
        """What is known of a file as it is now."""
        entry = self.entries.get(self._name(file))
        return entry if entry and entry[:2] == file[1:] else None

    def is_of(self, found: Sequence[File]) -> bool:
        """Whether the index is of exactly these files."""
        return len(found) == len(self.entries) and all(map(self.known, found)) and self._packed is not None

    def write(self, attempts: Iterable[tuple[File, str, int, int]], rows: pa.Table) -> None:
        """Keep file, outcome, start and stop of every attempt, and the rows of those that count."""
        import pyarrow as pa

        lines = [(self._name(file), *file[1:], *rest) for file, *rest in attempts]
        columns = zip(*lines, strict=True) if lines else [[] for _ in range(6)]
        types = (pa.string(), pa.int64(), pa.int64(), pa.string(), pa.int64(), pa.int64())
        names = ("file", *Entry._fields)
        table = pa.table({n: pa.array(c, type=t) for n, c, t in zip(names, columns, types, strict=True)})
        data = sealed(table.replace_schema_metadata({_INDEX_KEY: str(SCHEMA_VERSION)}), {})
        digest = hashlib.sha256(data).hexdigest()
        store.replace(b"*\n", self.folder / ".gitignore")
        store.replace(data, self.folder / "index.parquet")
        store.replace(sealed(rows.replace_schema_metadata({_INDEX_KEY: digest}), {}), self.folder / "records.parquet")

    def _name(self, file: File) -> str:
        return "/".join(file.place.rsplit(os.sep, 2)[-2:])


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced."""
    with contextlib.suppress(OSError):
        stat = path.stat()
        return stat.st_size, stat.st_mtime_ns
    return None


def sealed(table: pa.Table, metadata: Mapping[str, str]) -> bytes:
    """The table as a Parquet file with these entries in its footer and its own digest among them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({**metadata, store.DIGEST_KEY: store.BLANK})
    return store.seal(sink.getvalue().to_pybytes())
