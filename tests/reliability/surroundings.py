"""F20, F29, F30, F32, F33: what cells print, how large grids are, what files and names could do."""

from __future__ import annotations

import io
import itertools
import json
import re
import sys
import time
from contextlib import closing, redirect_stdout
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.reliability.harness import fault, instead
from tests.reliability.keeping import outcome, rows
from vbench import store
from vbench.cli import main
from vbench.execute.logs import CappedLog, plain
from vbench.grid import GridError, read_grid
from vbench.listing import load_catalogue
from vbench.records import Outcome, Store, load
from vbench.report import upkeep

ESCAPES = (
    *("\x1b[31m", "\x1b[2J\x1b[H", "\x1b]0;title\x07", "\x1b]8;;http://a\x1b\\"),
    *("\x1b(B", "\x1bc", "\x1bP1\x1b\\", "\x07"),
)


@fault(
    "F20",
    {
        "escapes are kept": instead("vbench.execute.logs._ESCAPE", re.compile(rb"(?!)")),
        "pieces are not joined": instead("vbench.execute.logs._LONGEST", 0),
        "no limit": instead("vbench.execute.logs.CappedLog._drop_middle", lambda self: None),
    },
    size=10**9,
)
def chatter(folder: Path, size: int = 10**6) -> None:
    """A log holds what was said and nothing that commands a terminal, however it comes, and stays within its limit."""
    said = "".join(f"word {escape}and\n" for escape in ESCAPES).encode() + b"\xff\xfe end\n"
    wanted = b"word and\n" * len(ESCAPES) + b"\xff\xfe end\n"
    for width in range(1, 12):
        log = CappedLog(folder / "log")
        for piece in itertools.batched(said, width) if sys.version_info >= (3, 12) else _batched(said, width):
            log.write(bytes(piece))
        log.close()
        assert (folder / "log").read_bytes() == wanted, width
    limit = min(size // 10, 10 * 2**20)
    with closing(CappedLog(folder / "long", limit)) as log:
        for _ in range(size // 10_000):
            log.write(b"y" * 9_999 + b"\n")
            assert (folder / "long").stat().st_size <= limit


def _batched(data: bytes, width: int):
    return (data[start : start + width] for start in range(0, len(data), width))


@fault(
    "F29",
    {
        "it is not counted": instead("vbench.grid.crossing.Grid.size", 0),
        "it is planned first": instead("vbench.cli.running._read", lambda grid, overrides, filters, most: None),
    },
)
def explosion(folder: Path) -> None:
    """Ten million cells are counted within a second, without being made, and do not run unasked."""
    grid = {
        "name": "large",
        "datasets": ["digits"],
        "encoders": [{"gaussian": {"sweep": {"latent": list(range(1, 101))}}}],
        "decoders": ["bernoulli"],
        "priors": ["standard-normal"],
        "estimators": [{"iwae": {"sweep": {"k": list(range(1, 101))}}}],
        "seeds": 1000,
    }
    path = folder / "grid.yaml"
    path.write_text(json.dumps(grid))
    load_catalogue()  # else the first call would make it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vbench.cli.running._plan", lambda *args, **options: pytest.fail("planned"))
        patch.setattr("vbench.report.console.run", lambda *args, **options: pytest.fail("run"))
        for command in (["plan"], ["run"], ["run", "--dry-run"], ["run", "--max-cells", "9999999"]):
            began = time.process_time()
            result = CliRunner().invoke(main, [*command, str(path)])
            assert time.process_time() - began < 1.0
            assert result.exit_code == 2, result.output
            assert "10,000,000 cells, more than --max-cells" in result.output


_seen: list[str] = []
_hooked: list[bool] = []


def _watch() -> None:
    if not _hooked:  # a hook stays for good
        _hooked.append(True)
        events = ("pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn")
        sys.addaudithook(lambda event, args: _seen.append(event) if event in events else None)


def _unpickling(path: Path, read=store.read) -> bytes:
    import pickle

    pickle.loads(pickle.dumps(path))
    return read(path)


@fault("F30", {"something is unpickled": instead("vbench.store.read", _unpickling)})
def nothing_is_run(folder: Path) -> None:
    """Reading results, points and checkpoints, whole or damaged, loads no pickle and starts nothing."""
    from torch import nn

    from vbench import checkpoints
    from vbench.resume import Points

    kept = Store(folder / "study")
    for i in range(4):
        kept.commit(outcome(f"key{i}"), rows())
    path = kept.commit(outcome("bad0"), rows())
    module = nn.Linear(2, 2)
    points = Points(folder / "study" / "resume" / "key0.safetensors", 1.0, {})
    points._save(1, [], {"model": module}, type("None", (), {"state": {}}), [])
    checkpoints.store(folder / "study", "key0", 0, module)
    load(kept.folder)
    _watch()
    _seen.clear()
    for damage in (b"", b"\x80\x04cos\nsystem\n.", path.read_bytes()[::-1]):
        path.write_bytes(damage)
        kept.verify()
        assert len(kept.records()) == 12
        kept.compact()
        assert len(kept.cells()) == 4
    assert points.load() == {}
    assert len(list(checkpoints.load(folder / "study", "key0"))) == 1
    assert _seen == []


HOSTILE = ("..", "../x", "a/b", "/etc/passwd", "a\0b", "CON:", "x" * 300, "", ".hidden", "a b", "a\nb", "~", "é" * 9)


@fault("F32", {"any text is a key": instead("vbench.attempts._KEY", re.compile(r".*", re.DOTALL))})
def names_and_paths(folder: Path) -> None:
    """No name of a study or key of a cell leads out of its folder; a folder that is a link is not followed."""
    for name in HOSTILE:
        with pytest.raises(ValueError, match="a cell's key"):
            Outcome(name, "done", "", {}, 0)
        with pytest.raises(GridError):
            read_grid({"name": name, "datasets": ["digits"]}, load_catalogue())
    kept, elsewhere = Store(folder / "study"), Store(folder / "elsewhere")
    kept.commit(outcome("good"), rows())
    elsewhere.commit(outcome("other"), rows())
    (kept.folder / "records" / "link").symlink_to(elsewhere.folder / "records" / "ot")
    assert set(kept.outcomes()) == {"good"}


@fault("F33", {"shown as it is": instead("vbench.report.upkeep.plain", lambda text: text)})
def names_on_a_terminal(folder: Path) -> None:
    """What a plugin says reaches the terminal as text."""
    reason = "".join(ESCAPES) + "\x9b31m\x85 bad"
    assert plain(reason).strip() == "31m bad"
    kept = Store(folder / "study")
    kept.commit(Outcome("key0", "failed", reason, {"estimator": "rloo"}, 0, traceback=f"Traceback {reason}"))
    (folder / "study" / "logs").mkdir()
    (folder / "study" / "logs" / "key0.log").write_bytes(reason.encode() + b"\xff")
    printed = io.StringIO()
    with redirect_stdout(printed):
        upkeep.log(kept.folder, ["rloo"])
        upkeep.log(kept.folder, [])
        upkeep.status(kept.folder, watch=False)
    assert "bad" in printed.getvalue()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", printed.getvalue())
