"""The store loses nothing: not under kill -9, two writers, damaged files or a full disk."""

import json
import os
import subprocess
import sys
import textwrap
import time

import pandas as pd
import pytest

from tests.test_records import ROW, outcome
from vbench.records import Store, load


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "study")


def script(code, *args):
    return [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]


def test_every_flipped_bit_is_seen(store):
    path = store.commit(outcome("bad0"), [ROW] * 3)
    store.commit(outcome("good"), [ROW])
    data = path.read_bytes()
    for at in range(0, len(data), max(1, len(data) // 400)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        assert set(store.outcomes()) == {"good"}, at
        assert [damaged.name for damaged, _ in store.damaged] == ["bad0.0.parquet"]


def test_damaged_and_foreign_files_are_named_and_hide_nothing(store):
    store.commit(outcome("good"), [ROW])
    data = store.commit(outcome("bad1"), [ROW]).read_bytes()
    folder = store.folder / "records" / "ba"
    (folder / "bad1.0.parquet").write_bytes(data[: len(data) // 2])
    (folder / "bad2.0.parquet").write_bytes(b"")
    (folder / "bad3.0.parquet").write_bytes(data)
    (folder / "notes.txt").write_text("hello")
    pd.DataFrame({"a": [1]}).to_parquet(folder / "bad4.0.parquet")
    with pytest.warns(UserWarning, match="damaged files left out, 5: bad1"):
        assert len(load(store.folder)) == 1
    store.outcomes()
    reasons = {path.name: reason for path, reason in store.damaged}
    assert "truncated" in reasons["bad1.0.parquet"]
    assert "empty" in reasons["bad2.0.parquet"]
    assert "renamed: it holds cell bad1" in reasons["bad3.0.parquet"]
    assert "not written by vbench" in reasons["bad4.0.parquet"]
    assert "not a result" in reasons["notes.txt"]


def test_a_damaged_attempt_is_not_overwritten(store):
    store.commit(outcome()).write_bytes(b"")
    assert store.commit(outcome()).name == "ab12.1.parquet"
    assert store.outcomes()["ab12"].attempt == 1


@pytest.mark.parametrize("call", ["os.fsync", "os.link", "os.open", "os.write"])
def test_a_full_disk_loses_nothing_committed(store, monkeypatch, call):
    store.commit(outcome("first"), [ROW])

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(call, full)
        with pytest.raises(OSError, match="No space"):
            store.commit(outcome("second"), [ROW])
    assert set(store.outcomes()) == {"first"}
    assert list(store.folder.rglob("*.tmp")) == []
    store.commit(outcome("second"), [ROW])
    assert set(store.outcomes()) == {"first", "second"}


WRITER = """
    import sys
    from vbench.records import Outcome, Row, Store
    folder, writer, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    store = Store(folder)
    for i in range(count):
        row = Row(i, "test", "elbo", writer, float(i), None, None, "nats")
        store.commit(Outcome(f"key{i % 20:03}", "failed", writer, {}, i), [row])
"""


def test_two_writers_of_the_same_cells(store):
    writers = [subprocess.Popen(script(WRITER, store.folder, name, 100)) for name in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    files = sorted((store.folder / "records").rglob("*.parquet"))
    assert [path.name for path in files] == sorted(f"key{i:03}.{j}.parquet" for i in range(20) for j in range(10))
    frame = pd.read_parquet(store.folder / "records")
    assert sorted(zip(frame["part"], frame["step"], strict=True)) == [(w, i) for w in "ab" for i in range(100)]
    assert store.outcomes().keys() == {f"key{i:03}" for i in range(20)}
    assert store.damaged == []


KILLED = """
    import json, os, random, signal, sys, time
    import pandas, pyarrow.parquet
    from vbench.records import Outcome, Row, Store
    folder, kills = sys.argv[1], int(sys.argv[2])
    for kill in range(kills):
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            store, rows = Store(f"{folder}/{kill}"), [Row(0, "s", "m", "p", 1.0, None, 1, "u")] * 50
            for i in range(10_000):
                store.commit(Outcome(f"key{i}", "done", "", {}, i), rows)
                os.write(writer, b"x")
        os.read(reader, 1)
        time.sleep(random.Random(kill).uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(writer)
        acked = 1
        while more := os.read(reader, 65536):
            acked += len(more)
        print(json.dumps([kill, acked]), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 and fork")
def test_kill_minus_nine_at_any_instant(tmp_path):
    result = subprocess.run(script(KILLED, tmp_path, 30), stdout=subprocess.PIPE, timeout=120, check=True)
    for line in result.stdout.splitlines():
        kill, acked = json.loads(line)
        store = Store(tmp_path / str(kill))
        found = store.outcomes()
        assert store.damaged == []
        assert {f"key{i}" for i in range(acked)} <= found.keys()
        assert len(found) <= acked + 1
        assert len(store.records()) == 50 * len(found)
        store.sweep()
        assert list(store.folder.rglob(".*")) == []
    assert kill == 29


def test_sweep_spares_the_living(store, monkeypatch):
    store.commit(outcome())
    folder = store.folder / "records" / "ab"
    mine, other = folder / f".here.{os.getpid()}.00.tmp", folder / ".elsewhere.1.00.tmp"
    gone, old = folder / ".here.999999999.00.tmp", folder / ".old.tmp"
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    for path in (mine, other, gone, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 4000,) * 2)
    assert store.sweep() == 2
    assert mine.exists()
    assert other.exists()
    assert len(store.records()) == 0
    assert len(pd.read_parquet(store.folder / "records")) == 0
