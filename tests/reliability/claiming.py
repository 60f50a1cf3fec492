"""F6, F7, F9, F36: two runs on one folder share the work, whoever dies, sleeps or has a wrong clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.reliability.harness import fault, folder_of, instead
from tests.reliability.small import same_numbers, small
from vbench import claims
from vbench.claims import BEAT, EXPIRY, Claims, Owner
from vbench.execute.jobs import Event
from vbench.records import Store
from vbench.study import run

GLOB = Path.glob
STRANGER = Owner("elsewhere", "another place", 12345, "1", "abc")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def claimed_by(study: Path, owner: Owner, key: str = "key0", token: int = 0) -> Path:
    (study / "claims").mkdir(parents=True, exist_ok=True)
    path = study / "claims" / f"{key}.{token}"
    path.write_text(json.dumps(asdict(owner)))
    return path


def _overwriting(data: bytes, folder: Path, names) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / next(iter(names))
    path.write_bytes(data)
    return path


@fault("F6", {"claims are not exclusive": instead("vbench.store.publish", _overwriting)}, tries=300)
def one_claim_at_a_time(folder: Path, tries: int = 25) -> None:
    """Of many that try at once one has it, also when all see the same abandoned claim."""
    for number in range(tries):
        study = folder_of(folder, str(number))
        if number % 2:
            claimed_by(study, replace(Owner.here(), started="long ago"))
        start, winners = threading.Barrier(8), []

        def contend(study=study, start=start, winners=winners) -> None:
            mine = Claims(study)
            start.wait()
            if mine.take("key0") is None:
                winners.append(mine)

        threads = [threading.Thread(target=contend) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        standing = [mine for mine in winners if claims.held(*map_path(mine.mine("key0")))]
        assert len(winners) == len(standing) == 1, number
        winners[0].release("key0")
        assert Claims(study).take("key0") is None


@fault("F6", {"the listing is believed": instead("vbench.claims.held", lambda path, nonce: True)})
def a_listing_that_misses_a_claim(folder: Path) -> None:
    """Another run takes an abandoned claim over while the folder is listed: there is one winner still."""
    for name in ("seen and gone", "not seen"):
        study = folder_of(folder, name)
        old = claimed_by(study, replace(Owner.here(), started="long ago"))
        first, late = Claims(study), Claims(study)

        def overtaken(path: Path, first=first, real=claims._read):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(claims, "_read", real)
                patch.setattr(Path, "glob", GLOB)
                if not first._mine:
                    assert first.take("key0") is None
            return real(path)

        def blind(self: Path, pattern: str, first=first, old=old, overtaken=overtaken):
            if first._mine:
                return GLOB(self, pattern)
            overtaken(old)
            return iter(())

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(*((claims, "_read", overtaken) if name == "seen and gone" else (Path, "glob", blind)))
            assert late.take("key0") is not None, name
        assert claims.held(*map_path(first.mine("key0"))), name


def map_path(mine: tuple[str, str]) -> tuple[Path, str]:
    return Path(mine[0]), mine[1]


@fault(
    "F7",
    {
        "the dead are not recognised": instead("vbench.claims.Owner.dead", False),
        "a number that is taken again is believed": instead("vbench.claims._started", lambda pid: "1"),
    },
    kills=50,
)
def killed_owner(folder: Path, kills: int = 2) -> None:
    """What a killed run had claimed is taken over at once; what a living one has is not."""
    for number in range(kills):
        code = "import sys, time; from vbench.claims import Claims; from pathlib import Path; "
        code += "c = Claims(Path(sys.argv[1])); print(c.take('key0'), flush=True); time.sleep(60)"
        with subprocess.Popen([sys.executable, "-c", code, folder / str(number)], stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout.readline() == b"None\n"
                mine = Claims(folder / str(number))
                owner = mine.take("key0")
                assert owner is not None
            finally:  # else it would be waited for
                process.kill()
                process.wait()
        assert owner.pid == process.pid
        began = time.monotonic()
        assert mine.take("key0") is None
        assert time.monotonic() - began < EXPIRY / 9
    again = claimed_by(folder / "again", replace(Owner.here(), started="an earlier process with this number"))
    assert Claims(folder / "again").take("key0") is None
    assert not again.exists()


def _as_before(self: Claims) -> Claims:
    return self


@fault("F7", {"what the dead hold is left": instead("vbench.claims.Claims.__enter__", _as_before)})
def killed_after_its_result(folder: Path) -> None:
    """Claimed by a run that was killed with its result already there: it goes with the next; the living keep theirs."""
    grid = small()
    key = next(iter(run(grid, results=folder, workers=0).outcomes))
    study = folder / "small"
    left = claimed_by(study, replace(Owner.here(), started="long ago"), key)
    kept = [claimed_by(study, STRANGER, "key0"), claimed_by(study, Owner.here(), "key1")]
    assert run(grid, results=folder, workers=0).computed == 0
    assert not left.exists()
    assert sorted((study / "claims").iterdir()) == kept


def _by_the_wall(self: Claims, claim: claims.Claim) -> bool:
    return time.time() - claim.beat / 1e9 > EXPIRY


@fault(
    "F9",
    {
        "expiry by the wall clock": instead("vbench.claims.Claims._abandoned", _by_the_wall),
        "no expiry": instead("vbench.claims.EXPIRY", float("inf")),
        "no sign of life": instead("vbench.claims.Claims.beat", lambda self: None),
    },
)
def clocks_that_jump(folder: Path) -> None:
    """A claim is alive while it changes, whatever time it shows; one that does not change ends after EXPIRY."""
    for jump in (-3600, 0, 3600):
        study, clock = folder_of(folder, str(jump)), Clock()
        path = claimed_by(study, STRANGER)
        waiting = Claims(study, clock)
        at = time.time_ns() + jump * 10**9
        for _ in range(30):
            at += 10**9 if jump >= 0 else -(10**9)
            os.utime(path, ns=(at, at))
            assert waiting.take("key0") == STRANGER
            clock.now += BEAT
        clock.now += EXPIRY - 2 * BEAT
        assert waiting.take("key0") == STRANGER
        clock.now += 2 * BEAT
        assert waiting.take("key0") is None
    study, clock = folder_of(folder, "mine"), Clock()
    mine = Claims(study)
    assert mine.take("key0") is None
    mine.owner = replace(mine.owner, place="cannot be judged from here")
    waiting = Claims(study, clock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: 0.0)
        for _ in range(30):
            mine.beat()
            assert waiting.take("key0").nonce == mine.owner.nonce
            clock.now += BEAT


@fault(
    "F36",
    {
        "no fencing": instead("vbench.claims.held", lambda path, nonce: True),
        "nobody asks": instead("vbench.assignment.Assignment.held", True),
    },
)
def late_owner(folder: Path) -> None:
    """A run that slept while another took its cell over keeps nothing, and the other's result stands."""
    taken = []

    def sleep_over(event: Event) -> None:
        if event.kind != "progress" or taken:
            return
        (standing,) = claims.listed(folder / "small")
        taken.append(standing.path)
        waiting, clock = Claims(folder / "small"), Clock()
        waiting._clock = clock
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vbench.claims.Owner.dead", False)
            assert waiting.take(standing.key) is not None
            clock.now += EXPIRY + 1
            assert waiting.take(standing.key) is None

    result = run(small(seeds=1), results=folder, workers=0, on_event=sleep_over)
    assert taken
    assert result.outcomes == {}
    assert list((folder / "small" / "records").rglob("*.parquet")) == []


@fault(
    "F6",
    {
        "nobody looks again": instead("vbench.study._elsewhere", lambda *_: ""),
        "nobody claims": instead("vbench.claims.Claims.take", lambda self, key: self._mine.setdefault(key, Path())),
    },
)
def two_runs(folder: Path) -> None:
    """A run that begins while another is at work does the rest; each cell is computed once, with the same numbers."""
    second = []

    def meet(event: Event) -> None:
        if event.kind == "started" and not second:
            second.append(None)
            second[0] = run(small(), results=folder, workers=0, filters=["seed=1,2"])

    first = run(small(), results=folder, workers=0, on_event=meet)
    assert first.counts == {"done": 3}
    assert second[0].counts == {"done": 2}
    files = [path.name for path in (folder / "small" / "records").rglob("*.parquet")]
    assert len(files) == 3, files
    assert list((folder / "small" / "claims").iterdir()) == []
    run(small(), results=folder / "alone", workers=0)
    same_numbers(folder / "small", folder / "alone" / "small")


@fault("F6", {"it does not wait": instead("vbench.study.Wait", lambda reason: "done")})
def waiting_for_another(folder: Path) -> None:
    """A cell that another run has is waited for, and taken from it when it is done."""
    study = folder / "small"
    run(small(seeds=1), results=folder / "other", workers=0)
    (key,) = Store(folder / "other" / "small").outcomes()
    path = claimed_by(study, STRANGER, key)
    seen = []

    def finish(event: Event) -> None:
        seen.append((event.kind, event.reason))
        if event.kind == "waiting":
            source = next((folder / "other" / "small" / "records").rglob("*.parquet"))
            target = study / "records" / source.parent.name / source.name
            target.parent.mkdir(parents=True)
            target.write_bytes(source.read_bytes())
            path.unlink()

    result = run(small(seeds=1), results=folder, workers=0, on_event=finish)
    assert seen == [("waiting", "process 12345 on elsewhere has claimed"), ("ended", "by another run")]
    assert result.counts == {"done": 1}
