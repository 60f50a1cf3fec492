"""Published files: looked for, fetched and verified. Imports no torch.

A file of dataset ``mnist`` is looked for as ``mnist/<name>`` under ``$VBENCH_DATA``, then under the user
cache, as published or decompressed; what is in neither is fetched into the cache. Nothing is used whose
decompressed content has another SHA-256 than the pinned one.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

from platformdirs import user_cache_path

__all__ = ["SOURCES", "DataError", "File", "Status", "content", "contents", "fetch", "statuses"]


class DataError(Exception):
    """Data that cannot be had or made; the message is one line for the user."""


@dataclass(frozen=True)
class File:
    """One published file.

    Attributes:
        name: as published; a name that ends in ``.gz`` is decompressed.
        sha256: of the decompressed content.
        size: of the decompressed content, bytes.
        urls: where it is published, tried in turn.
    """

    name: str
    sha256: str
    size: int
    urls: tuple[str, ...]

    @property
    def plain(self) -> str:
        """The name of the decompressed file."""
        return self.name.removesuffix(".gz")


@dataclass(frozen=True)
class Status:
    """Where one file stands.

    Attributes:
        dataset: the name of the dataset.
        file: the published name.
        path: where it is, or where it would be fetched to.
        state: ``wrong`` is a file that is there and is not the published one.
        size: bytes on disk, 0 when missing.
        sha256: of the decompressed content, as verified; empty when not.
    """

    dataset: str
    file: str
    path: Path
    state: Literal["present", "missing", "wrong"]
    size: int = 0
    sha256: str = ""


def _mnist(name: str, sha256: str, size: int) -> File:
    roots = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    return File(name, sha256, size, tuple(root + name for root in roots))


def _binarized(split: str, sha256: str, size: int) -> File:
    name = f"binarized_mnist_{split}.amat"
    return File(name, sha256, size, (f"https://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/{name}",))


SOURCES: Final[Mapping[str, tuple[File, ...]]] = {
    "binarized-mnist": (
        _binarized("train", "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d", 78_400_000),
        _binarized("valid", "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2", 15_680_000),
        _binarized("test", "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c", 15_680_000),
    ),
    "frey": (
        File(
            "frey_rawface.mat",
            "5cf252a87d1914f6ef52da3172cac877c8feaedcdae9bdfd1479bc4e7998c3d9",
            996_854,
            ("https://cs.nyu.edu/~roweis/data/frey_rawface.mat",),
        ),
    ),
    "mnist": (
        _mnist(
            "train-images-idx3-ubyte.gz",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            47_040_016,
        ),
        _mnist(
            "train-labels-idx1-ubyte.gz",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            60_008,
        ),
        _mnist(
            "t10k-images-idx3-ubyte.gz",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            7_840_016,
        ),
        _mnist(
            "t10k-labels-idx1-ubyte.gz",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            10_008,
        ),
    ),
}


def _cache() -> Path:
    return user_cache_path("vbench", appauthor=False)


def _find(dataset: str, file: File) -> Path | None:
    named = os.environ.get("VBENCH_DATA")
    roots = [Path(named).expanduser(), _cache()] if named else [_cache()]
    places = (root / dataset / name for root in roots for name in dict.fromkeys((file.name, file.plain)))
    return next((place for place in places if place.is_file()), None)


def _advice(dataset: str, file: File) -> str:
    names = " or ".join(dict.fromkeys((file.name, file.plain)))
    return (
        f"put {names} (SHA-256 of the decompressed content {file.sha256}) "
        f"into $VBENCH_DATA/{dataset} or {_cache() / dataset}"
    )


def _read(path: Path, file: File) -> bytes:
    """The decompressed content, verified.

    Raises:
        ValueError: it is another content, or none.
        OSError: it cannot be read.
    """
    try:
        # never more than one byte beyond the expected size: a bomb is a wrong file like any other
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            data = stream.read(file.size + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"is not a whole gzip file ({error})") from None
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        raise ValueError(f"has {_length(len(data), file)} with SHA-256 {found}")
    return data


def _length(size: int, file: File) -> str:
    return f"more than {file.size} bytes" if size > file.size else f"{size} bytes"


def content(dataset: str, file: File) -> bytes:
    """The decompressed content of a file, fetched if need be and verified.

    Args:
        dataset: the folder that it is looked for in.
        file: what is expected; a plugin gives its own.

    Raises:
        DataError: the file is wrong or cannot be had.
    """
    path = _find(dataset, file) or _fetch(dataset, file)
    try:
        return _read(path, file)
    except ValueError as error:
        expected = f"expected {file.size} bytes with SHA-256 {file.sha256}"
        raise DataError(f"{dataset}: {path} {error}; {expected}: delete or replace it") from None
    except OSError as error:
        raise DataError(f"{dataset}: cannot read {path} ({error.strerror}); {_advice(dataset, file)}") from None


def contents(dataset: str) -> Mapping[str, bytes]:
    """The contents of all files of a dataset of ours, by the names of the decompressed files."""
    return {file.plain: content(dataset, file) for file in _sources(dataset)}


def fetch(dataset: str) -> list[Path]:
    """Fetch what is missing of a dataset of ours; the paths of its files, all verified.

    Raises:
        DataError: a file is wrong or cannot be had, or there is no such dataset to fetch.
    """
    contents(dataset)
    return [status.path for status in statuses(verify=False) if status.dataset == dataset]


def statuses(verify: bool = True) -> list[Status]:
    """Where every file of ours stands; reads and hashes each that is there when ``verify``. Never fetches."""
    return [_status(dataset, file, verify) for dataset, files in SOURCES.items() for file in files]


def _sources(dataset: str) -> tuple[File, ...]:
    if dataset not in SOURCES:
        raise DataError(f"{dataset}: nothing to fetch under this name; there is {', '.join(sorted(SOURCES))}")
    return SOURCES[dataset]


def _status(dataset: str, file: File, verify: bool) -> Status:
    path = _find(dataset, file)
    if path is None:
        return Status(dataset, file.name, _cache() / dataset / file.name, "missing")
    size = path.stat().st_size
    if not verify:
        return Status(dataset, file.name, path, "present", size)
    try:
        _read(path, file)
    except (OSError, ValueError):
        return Status(dataset, file.name, path, "wrong", size)
    return Status(dataset, file.name, path, "present", size, file.sha256)


def _fetch(dataset: str, file: File) -> Path:
    """Fetch a file into the cache: from the first address that has it, and only if it is the right one."""
    from filelock import FileLock

    folder = _cache() / dataset
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # workers that start together fetch once
        with FileLock(folder / f".{file.name}.lock"):
            return _find(dataset, file) or _download(dataset, file, folder)
    except OSError as error:
        raise DataError(f"{dataset}: cannot write to {folder} ({error}); {_advice(dataset, file)}") from None


def _download(dataset: str, file: File, folder: Path) -> Path:
    failures = []
    for url in file.urls:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
            # the suffix tells _read whether to decompress
            part = Path(scratch) / file.name
            try:
                _transfer(url, part, f"{dataset}: {file.name}")
                _read(part, file)
            except (OSError, ValueError) as error:
                failures.append(f"{url}: {' '.join(str(error).split())[:200] or type(error).__name__}")
                continue
            return part.replace(folder / file.name)
    raise DataError(f"{dataset}: cannot fetch {file.name} ({'; '.join(failures)}); {_advice(dataset, file)}")


def _transfer(url: str, path: Path, label: str) -> None:
    import pooch

    with _Bar(label) as bar:
        pooch.HTTPDownloader(progressbar=bar)(url, str(path), None)


class _Bar:
    """A rich progress bar on standard error, with the methods that pooch asks of a bar."""

    def __init__(self, label: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task(label, total=None)
        self.total = 0

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(self, count: int) -> None:
        self._progress.update(self._task, advance=count, total=self.total or None)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        """Nothing: the bar ends with its block, also when a transfer fails."""
