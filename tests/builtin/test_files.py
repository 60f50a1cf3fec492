"""Files: found, verified, fetched, and one clear line where they are not to be had."""

import functools
import gzip
import hashlib
import http.server
import subprocess
import sys
import threading

import pooch
import pytest

from vbench.builtin.datasets import files
from vbench.builtin.datasets.files import DataError, File, content, fetch, statuses

DATA = bytes(range(256)) * 40
PLAIN = File("a.bin", hashlib.sha256(DATA).hexdigest(), len(DATA), ("https://nowhere.invalid/a.bin",))
PACKED = File("a.bin.gz", PLAIN.sha256, PLAIN.size, ("https://nowhere.invalid/a.bin.gz",))


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    """A named folder and a cache, both empty."""
    named, cache = tmp_path / "named", tmp_path / "cache"
    monkeypatch.setenv("VBENCH_DATA", str(named))
    monkeypatch.setattr(files, "_cache", lambda: cache)
    return named, cache


@pytest.fixture
def offline(monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", fail)


@pytest.fixture
def server(tmp_path):
    """A web server of the folder that is returned with its address and the list of what was asked of it."""
    folder, asked = tmp_path / "web", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}/", asked
        httpd.shutdown()
        thread.join()


def put(folder, name, data):
    (folder / "toy").mkdir(parents=True, exist_ok=True)
    path = folder / "toy" / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def message(error):
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", ["a.bin", "a.bin.gz"])
def test_a_file_is_found_packed_or_not_in_either_folder(folders, place, name, offline):
    put(folders[place], name, DATA)
    assert content("toy", PACKED) == DATA


def test_the_named_folder_comes_first(folders):
    put(folders[0], "a.bin", DATA)
    put(folders[1], "a.bin", b"something else")
    assert content("toy", PLAIN) == DATA


def test_the_cache_serves_without_the_variable(folders, monkeypatch):
    monkeypatch.delenv("VBENCH_DATA")
    put(folders[1], "a.bin", DATA)
    assert content("toy", PLAIN) == DATA


@pytest.mark.parametrize(
    ("name", "raw", "problem"),
    [
        ("a.bin", DATA[:-1] + b"x", f"has {len(DATA)} bytes with SHA-256"),
        ("a.bin", DATA[:-1], f"has {len(DATA) - 1} bytes"),
        ("a.bin", DATA + b"x" * 1000, f"has more than {len(DATA)} bytes"),
        ("a.bin.gz", gzip.compress(DATA + b"x" * 1000, mtime=0), f"has more than {len(DATA)} bytes"),
        ("a.bin.gz", gzip.compress(DATA, mtime=0)[:-20], "is not a whole gzip file"),
        ("a.bin.gz", DATA, "is not a whole gzip file"),
        ("a.bin.gz", b"", "has 0 bytes"),
    ],
)
def test_a_wrong_file_is_named_with_the_digest_expected(folders, name, raw, problem):
    path = put(folders[0], name, b"")
    path.write_bytes(raw)
    with pytest.raises(DataError) as error:
        content("toy", PACKED)
    text = message(error)
    assert str(path) in text
    assert problem in text
    assert PACKED.sha256 in text


def test_every_flipped_byte_is_noticed(folders):
    for place in range(0, len(DATA), 997):
        broken = bytearray(DATA)
        broken[place] ^= 1
        put(folders[0], "a.bin", bytes(broken))
        with pytest.raises(DataError, match="SHA-256"):
            content("toy", PLAIN)


def test_offline_says_what_to_put_where(folders, offline):
    with pytest.raises(DataError) as error:
        content("toy", PACKED)
    text = message(error)
    for part in ("a.bin.gz", "a.bin", PACKED.urls[0], "no network", PACKED.sha256, "$VBENCH_DATA/toy"):
        assert part in text
    assert str(folders[1] / "toy") in text


def test_offline_leaves_nothing_behind(folders, offline):
    with pytest.raises(DataError):
        content("toy", PACKED)
    assert [path.name for path in (folders[1] / "toy").iterdir() if not path.name.endswith(".lock")] == []


def test_a_cache_that_cannot_be_made_says_so(folders, offline):
    folders[1].write_text("a file where the cache should be")
    with pytest.raises(DataError, match="cannot write to"):
        content("toy", PACKED)


@pytest.mark.parametrize("name", ["a.bin", "a.bin.gz"])
def test_a_file_is_fetched_once_from_the_first_address_that_has_the_right_one(folders, server, name):
    folder, url, asked = server
    put(folder, name, DATA)
    put(folder, "other.bin", b"a page that says no" * 1000)
    urls = tuple(url + path for path in ("toy/none.bin", "toy/other.bin", f"toy/{name}"))
    file = File(name, PLAIN.sha256, PLAIN.size, urls)
    assert content("toy", file) == DATA
    assert (folders[1] / "toy" / name).is_file()
    assert not folders[0].exists()
    before = len(asked)
    assert content("toy", file) == DATA
    assert len(asked) == before


def test_what_is_fetched_wrong_is_refused_and_not_kept(folders, server):
    folder, url, _ = server
    put(folder, "a.bin", DATA[::-1])
    with pytest.raises(DataError) as error:
        content("toy", File("a.bin", PLAIN.sha256, PLAIN.size, (url + "toy/a.bin",)))
    assert hashlib.sha256(DATA[::-1]).hexdigest() in message(error)
    assert not (folders[1] / "toy" / "a.bin").exists()


def test_workers_that_start_together_fetch_once(folders, server):
    folder, url, asked = server
    put(folder, "a.bin", DATA)
    file = File("a.bin", PLAIN.sha256, PLAIN.size, (url + "toy/a.bin",))
    found = []
    workers = [threading.Thread(target=lambda: found.append(content("toy", file))) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [DATA] * 8
    assert asked == ["/toy/a.bin"]


def test_statuses_and_fetch(folders, server, monkeypatch):
    folder, url, _ = server
    put(folder, "a.bin", DATA)
    put(folder, "b.bin", DATA)
    names = ("a.bin", "b.bin")
    source = tuple(File(name, PLAIN.sha256, PLAIN.size, (f"{url}toy/{name}",)) for name in names)
    monkeypatch.setattr(files, "SOURCES", {"toy": source})
    path = put(folders[0], "b.bin", b"wrong")

    missing, wrong = statuses()
    assert (missing.state, missing.path, missing.size, missing.sha256) == (
        "missing",
        folders[1] / "toy" / "a.bin",
        0,
        "",
    )
    assert (wrong.state, wrong.path, wrong.size, wrong.sha256) == ("wrong", path, 5, "")
    with pytest.raises(DataError, match="delete or replace"):
        fetch("toy")
    path.unlink()
    assert fetch("toy") == [folders[1] / "toy" / name for name in names]
    assert [(s.state, s.size, s.sha256) for s in statuses()] == [("present", len(DATA), PLAIN.sha256)] * 2
    assert [s.sha256 for s in statuses(verify=False)] == ["", ""]


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(DataError, match="nothing to fetch under this name; there is binarized-mnist, frey, mnist"):
        fetch("mnits")


def test_pinned_sources_are_whole():
    for source in files.SOURCES.values():
        for file in source:
            assert len(bytes.fromhex(file.sha256)) == 32
            assert file.size > 0
            assert all(url.startswith("https://") and url.endswith(file.name) for url in file.urls)


def test_looking_for_files_needs_no_torch():
    code = "import sys, vbench.builtin.datasets.files as f; f.statuses(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
