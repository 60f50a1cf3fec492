"""F37: a merge that is cut short, and files that change on their way."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

import pytest

from tests.reliability.harness import fault, instead
from tests.reliability.keeping import _in_place, outcome, rows
from vbench import merging, store
from vbench.records import Store


def _halves(folder: Path) -> list[Path]:
    one, other = Store(folder / "one"), Store(folder / "other")
    for kept, keys in ((one, ("aaaa", "bbbb")), (other, ("bbbb", "bbbb", "cccc"))):
        for number, key in enumerate(keys):
            kept.commit(outcome(key), rows(2 + number + 10 * (kept is other)))
    return [one.folder, other.folder]


def _files(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in (folder / "records").rglob("*.parquet"))


@fault(
    "F37",
    {
        "what stands is written over": instead("vbench.merging.store.publish", _in_place),
        "one attempt is copied twice": instead("vbench.merging._digest", lambda data: secrets.token_hex()),
        "an attempt of the same number is taken for the same": instead(
            "vbench.merging._digest", lambda data: "all alike"
        ),
    },
)
def a_merge_cut_short(folder: Path) -> None:
    """Wherever it stops, the same call goes on: every attempt is there once, byte for byte, the sources as before."""
    sources = _halves(folder)
    wanted = sorted(_files(sources[0]) + _files(sources[1]))
    for most in range(6):
        into = folder / f"into{most}"
        left = iter(range(most))

        def publish(*args, real=merging.store.publish, left=left):
            if next(left, None) is None:
                raise store.StoreError("no space")
            return real(*args)

        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(store.StoreError):
            patch.setattr("vbench.merging.store.publish", publish)
            merging.merge(sources, into, {})
        merging.merge(sources, into, {})
        assert _files(into) == wanted
        assert set(Store(into).outcomes()) == {"aaaa", "bbbb", "cccc"}
    assert sorted(_files(sources[0]) + _files(sources[1])) == wanted
