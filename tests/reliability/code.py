"""F23, F25, F26: results belong to the code and the data that made them, and a key to what it names."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.reliability.harness import fault, instead
from tests.reliability.small import small
from vbench import discovery, provenance
from vbench.grid import Cell, read_grid
from vbench.listing import load_catalogue
from vbench.planning import make_plan
from vbench.study import run

FILES = {
    "__init__.py": "from demo_plugin.estimator import Estimator\n",
    "estimator.py": "from demo_plugin.helper.deep import f\n",
    "helper/__init__.py": "",
    "helper/deep.py": "f = 1\n",
    "helper/table.npz": "numbers",
    "data/grid.yaml": "a: 1\n",
    "native.so": "code",
}


def changed(path: Path) -> bytes:
    """Change one byte; returns what was there."""
    before = path.read_bytes()
    path.write_bytes(bytes([before[0] ^ 1]) + before[1:] if before else b"#")
    return before


@fault(
    "F25",
    {
        "only Python files count": instead("vbench.discovery.contents", lambda module, name: discovery.sources(module)),
        "helpers do not count": instead(
            "vbench.discovery.contents", lambda module, name: sorted(discovery.sources(module)[0].parent.glob("*.*"))
        ),
        "vbench does not count": instead("vbench.provenance.digest_files", lambda files: "same"),
        "bytecode counts": instead(
            "vbench.discovery.contents", lambda module, name: sorted(discovery.sources(module)[0].parent.rglob("*.*"))
        ),
    },
)
def changed_files(folder: Path) -> None:
    """One byte in any file of a plugin, or of vbench's layers L0 to L5, changes the digest; nothing else does."""
    for name in ("demo_plugin", "other_plugin"):
        for file, text in FILES.items():
            (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / name / file).write_text(text.replace("demo_plugin", name))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setattr(sys, "path_importer_cache", {})

        def digests() -> list[str]:
            return [discovery._digest.__wrapped__(name, name) for name in ("demo_plugin", "other_plugin")]

        plain = digests()
        for file in FILES:
            before = changed(folder / "demo_plugin" / file)
            found = digests()
            (folder / "demo_plugin" / file).write_bytes(before)
            assert (found[0] != plain[0], found[1]) == (True, plain[1]), file
        (folder / "demo_plugin" / "__pycache__").mkdir()
        (folder / "demo_plugin" / "__pycache__" / "estimator.pyc").write_bytes(b"made by Python")
        assert digests() == plain

        copy = folder / "vbench"
        for source in discovery.PACKAGE.rglob("*.py"):
            (copy / source.relative_to(discovery.PACKAGE)).parent.mkdir(parents=True, exist_ok=True)
            (copy / source.relative_to(discovery.PACKAGE)).write_bytes(source.read_bytes())
        patch.setattr("vbench.provenance.PACKAGE", copy)
        plain_code = provenance.code_digest.__wrapped__()
        for source in sorted(copy.rglob("*.py")):
            if source.stat().st_size and sum(map(ord, source.name)) % 5 == 0:
                before = changed(source)
                counts = provenance.code_digest.__wrapped__() != plain_code
                source.write_bytes(before)
                shown = source.relative_to(copy).parts[0] in provenance._NOT_CODE
                assert counts != shown, source


def _same(stored, current) -> str:
    return ""


@fault(
    "F25",
    {
        "stale results are served": instead("vbench.planning.stale_reason", _same),
        "data are no part of the key": instead(
            "vbench.grid.crossing.Cell._content",
            lambda self, digest, more, real=Cell._content: real(self, "", more),
        ),
        "failures are served": instead("vbench.planning._FINAL", ("done", "diverged", "failed")),
    },
)
def what_runs_again(folder: Path) -> None:
    """Changed code or data, failures, and what is asked for: what is made again, and why, as ``plan`` says it."""
    grid = small(seeds=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vbench.runner.evaluate", lambda *args, **options: 1 / 0)
        run(grid, results=folder, workers=0, filters=["seed=1"])
    run(grid, results=folder, workers=0, filters=["seed=0"])

    def reasons(**options) -> list[str]:
        cells = make_plan(grid, results=folder, **options).cells
        return [f"{planned.action} {planned.reason}".split(":")[0].strip() for planned in cells]

    assert reasons() == ["done", "run was failed"]
    assert reasons(rerun="stale") == ["done", "done was failed"]
    assert reasons(rerun="all") == ["run asked for", "run was failed"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vbench.provenance.code_digest", lambda: "another")
        assert reasons() == ["run stale", "run was failed"]
        assert reasons(rerun="failed") == ["done stale, kept", "run was failed"]
        assert reasons(rerun="stale", keep_stale=True) == ["done stale, kept", "done was failed"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vbench.planning._Planner.digest", lambda self, dataset: "another")
        cells = make_plan(grid, results=folder).cells
        assert [planned.reason for planned in cells] == ["stale: its data changed", ""]
    grown = make_plan(small(seeds=3, estimators=["stl", "reparam"]), results=folder).cells
    kept = [planned for planned in grown if planned.action == "done"]
    assert [planned.key for planned in kept] == [make_plan(grid, results=folder).cells[0].key]


@fault(
    "F26",
    {
        "one key for all seeds": instead(
            "vbench.grid.crossing.Cell.keys", lambda self, digest, **more: lambda seed, **rest: self.key(digest)
        )
    },
)
def keys_of_many_seeds(folder: Path) -> None:
    """Keys made for many seeds at once are those made one by one."""
    for cell in read_grid(small(estimators=["reparam", "iwae[k=7]"], seeds=[0, 3]), load_catalogue()).cells():
        for seed in (0, 1, 2**40):
            one = replace(cell, seed=seed)
            assert cell.keys("data")(seed) == one.key("data")
            shared = cell.keys("data", reference=True)(seed, reference="f00")
            assert shared == one.key("data", reference="f00")
            assert cell.keys("data", role="reference")(seed) == one.key("data", role="reference")
