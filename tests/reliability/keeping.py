"""F3, F4, F8, F11: what was committed is there, whole, whatever happens to disk and files."""

from __future__ import annotations

import contextlib
import errno
import os
import random
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.reliability import disk
from tests.reliability.harness import fault, folder_of, instead
from vbench import records, store
from vbench.records import Outcome, Row, Store


def outcome(key: str, status: str = "done") -> Outcome:
    return Outcome(key, status, "", {"estimator": "rloo"}, 0, {"seed": 0})


def rows(count: int = 3) -> list[Row]:
    return [Row(step, "test", "elbo", "all", 0.5 * step, 0.1, 10, "nats") for step in range(count)]


def _in_place(data, folder, names):
    """What most programs do: write to the final name."""
    store._make(folder)
    path = folder / next(iter(names))
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)
    store._sync(folder)
    return path


def _without_sync(data, path):
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(handle, data)
    os.close(handle)


@fault(
    "F3",
    {
        "no sync of the file": instead("vbench.store._put", _without_sync),
        "no sync of the folder": instead("vbench.store._sync", lambda folder: None),
        "written in place": instead("vbench.store.publish", _in_place),
    },
    commits=12,
)
def power_loss(folder: Path, commits: int = 3) -> None:
    """Whenever the power goes and whatever was not synced is lost or torn: what was acknowledged is there, whole."""
    root = folder_of(folder, "disk")
    with pytest.MonkeyPatch.context() as patch:
        recorder = disk.Recorder(patch, root)
        kept = Store(root / "study")
        for i in range(commits):
            kept.commit(outcome(f"{i % 2}key{i}"), rows())
            recorder.acknowledge(f"{i % 2}key{i}")
            if i % 2:
                kept.compact()
    states = list(disk.crashes(root, recorder.log))
    assert len(states) > 10 * commits
    for number, (files, acked) in enumerate(states):
        there = folder / str(number)
        for name, data in files.items():
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            (there / name).write_bytes(data)
        kept = Store(there / "study")
        assert kept.outcomes().keys() >= set(acked), (number, acked)
        assert kept.damaged == [], number
        assert len(kept.records()) == 3 * len(kept.outcomes())
        with contextlib.suppress(FileNotFoundError):
            pd.read_parquet(kept.folder / "cells.parquet")


@fault(
    "F4",
    {
        "written in place": instead("vbench.store.publish", _in_place),
        "errors are not explained": instead("vbench.store._explained", lambda *_: contextlib.nullcontext()),
        "an error is swallowed": instead("vbench.store._explained", lambda *_: contextlib.suppress(OSError)),
    },
    numbers=(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EMFILE, errno.EROFS),
    compact=True,
)
def failing_disk(folder: Path, numbers: tuple[int, ...] = (errno.ENOSPC,), *, compact: bool = False) -> None:
    """Whichever call fails, with whatever error: one line, nothing lost, and the next try succeeds."""

    def begun(name: str) -> Store:
        kept = Store(folder / name)
        kept.commit(outcome("first"), rows())
        return kept

    with pytest.MonkeyPatch.context() as patch:
        kept = begun("count")
        counted = disk.Failing(patch, errno.EIO)
        kept.commit(outcome("second"), rows())
        if compact:
            kept.compact()
    assert counted.count > (30 if compact else 9)
    for number in numbers:
        for at in range(counted.count):
            kept, said = begun(f"{number}-{at}"), ""
            with pytest.MonkeyPatch.context() as patch:
                disk.Failing(patch, number, at)
                try:
                    kept.commit(outcome("second"), rows())
                    done = True
                    if compact:
                        kept.compact()
                except store.StoreError as error:
                    said, done = str(error), "second" in kept.outcomes()
            assert set(kept.outcomes()) == ({"first", "second"} if done else {"first"}), at
            assert kept.damaged == [], at
            if said:
                assert "\n" not in said
                assert os.strerror(number) in said
                assert str(kept.folder) in said
            kept.commit(outcome("second"), rows())
            assert set(kept.outcomes()) == {"first", "second"}, at
            assert len(kept.records()) == 6, at


def _unchecked(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise store.StrangeError("unreadable") from error


def _strict(path: Path, read=records.read):
    try:
        return read(path)
    except store.DamagedError as damage:
        raise ValueError(path) from damage


@fault(
    "F8",
    {
        "no checksum": instead("vbench.store.read", _unchecked),
        "damaged files stay": instead("vbench.records.Store.set_aside", lambda self: []),
        "one bad file hides the rest": instead("vbench.records.read", _strict),
    },
    damages=1000,
)
def damaged_files(folder: Path, damages: int = 60) -> None:
    """Each is named and set aside, its cell is free to run again, and the others are read."""
    chance = random.Random(0)
    kept = Store(folder / "study")
    path = kept.commit(outcome("bad0"), rows())
    kept.commit(outcome("good"), rows())
    kept.compact()  # an index that knows both must not hide it
    data = path.read_bytes()
    for number in range(damages):
        at = chance.randrange(len(data))
        flipped = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        path.write_bytes([flipped, data[:at], b"", chance.randbytes(at)][number % 4 if number % 8 > 3 else 0])
        try:
            found = kept.verify()
        except Exception as error:  # whatever escapes
            raise AssertionError(number) from error
        assert [damaged for damaged, _ in found] == [path], number
        assert kept.set_aside(), number
        assert not path.exists()
        assert set(kept.outcomes()) == {"good"}
        assert len(kept.records()) == 3
        path.write_bytes(data)


def _judging(path: Path, read=records.read):
    try:
        return read(path)
    except store.StrangeError as strange:
        raise store.DamagedError(str(strange)) from strange


@fault("F8", {"foreign files are moved": instead("vbench.records.read", _judging)})
def foreign_files(folder: Path) -> None:
    """A file by another hand, or of another version, is named and left where it is."""
    kept = Store(folder / "study")
    kept.commit(outcome("good"), rows())
    notes = kept.folder / "records" / "go" / "notes.txt"
    notes.write_text("mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vbench.attempts.SCHEMA_VERSION", 99)
        newer = kept.commit(outcome("newer"), rows())
    assert {path for path, _ in kept.verify()} == {notes, newer}
    assert kept.set_aside() == []
    assert notes.read_text() == "mine"
    assert newer.exists()
    assert set(kept.outcomes()) == {"good"}


def _no_links(patch: pytest.MonkeyPatch, number: int = errno.EPERM) -> None:
    def refuse(*args, **options):
        raise OSError(number, os.strerror(number))

    patch.setattr(os, "link", refuse)


@fault(
    "F11",
    {
        "links are a must": instead("vbench.store._NO_LINKS", frozenset()),
        "made over what stands": instead(
            "vbench.store._create", lambda path, data: bool(path.write_bytes(data)) or True
        ),
        "a lost answer is believed": instead(
            "vbench.store._link", lambda temporary, path, data: _believing(temporary, path)
        ),
    },
)
def file_systems_without_links(folder: Path) -> None:
    """Where no links can be made results are as safe; a server that loses its answer makes no second file."""
    kept = Store(folder / "study")
    with pytest.MonkeyPatch.context() as patch:
        _no_links(patch)
        names = [kept.commit(outcome("same"), rows()).name for _ in range(3)]
    assert names == ["same.0.parquet", "same.1.parquet", "same.2.parquet"]
    assert len(kept.attempts("same")) == 3
    real, lost = os.link, []

    def forgetful(source, target):
        real(source, target)
        if not lost:
            lost.append(target)
            raise FileExistsError(target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", forgetful)
        kept.commit(outcome("once"), rows())
    assert len(kept.attempts("once")) == 1


def _believing(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:
        return store._create(path, temporary.read_bytes())
    return True


def _any_rows(self):
    path = self.folder / "records.parquet"
    return pq.read_table(path) if path.exists() and self.entries else None


@fault(
    "F8",
    {
        "the index is believed": instead(
            "vbench.index.Index.known", lambda self, file: self.entries.get(f"{file.path.parent.name}/{file.path.name}")
        ),
        "rows of another index": instead("vbench.index.Index.rows", property(_any_rows)),
    },
)
def index_is_only_a_copy(folder: Path) -> None:
    """With it, without it, with a damaged or an older one: the same tables to the bit."""
    kept = Store(folder / "study")
    for i in range(6):
        kept.commit(outcome(f"key{i}", "failed" if i % 3 == 2 else "done"), rows(i))
    plain = kept.records(), kept.cells()

    def same() -> None:
        pd.testing.assert_frame_equal(kept.records(), plain[0], check_exact=True)
        pd.testing.assert_frame_equal(kept.cells(), plain[1], check_exact=True)

    kept.compact()
    same()
    cache = kept.folder / ".cache"
    old = {path: path.read_bytes() for path in cache.iterdir()}
    for path, data in old.items():
        path.write_bytes(data[: len(data) // 2])
        same()
        path.write_bytes(data)
    kept.commit(outcome("key2"), rows(4))
    kept.commit(outcome("aaaa"), rows(2))
    plain = _unindexed(kept)
    same()
    kept.compact()
    same()
    (cache / "records.parquet").write_bytes(old[cache / "records.parquet"])
    same()
    path = kept.commit(outcome("key9"), rows())
    kept.compact()
    path.write_bytes(path.read_bytes()[:-9])
    assert "key9" not in kept.outcomes()


def _unindexed(kept: Store) -> tuple[pd.DataFrame, pd.DataFrame]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vbench.index.Index.entries", {})
        return kept.records(), kept.cells()
