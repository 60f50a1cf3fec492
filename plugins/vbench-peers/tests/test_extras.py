"""Every name says which extra it needs, and is registered without it."""

import ast
import tomllib
from pathlib import Path

import vbench_peers
from vbench_peers import vbench_estimators, vbench_priors

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]


def test_every_name_says_which_extra_it_needs() -> None:
    for name, factory in {**vbench_estimators(), **vbench_priors()}.items():
        assert factory.extra == name.partition("-")[0]
        assert factory.extra in EXTRAS


def test_registering_imports_neither_library() -> None:
    folder = Path(vbench_peers.__file__).parent
    seen, due = set(), ["__init__"]
    while due:
        name = due.pop()
        seen.add(name)
        for node in ast.parse((folder / f"{name}.py").read_text("utf-8")).body:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                assert module.partition(".")[0] not in ("pyro", "pythae"), (name, module)
                if module.startswith("vbench_peers.") and (own := module.partition(".")[2]) not in seen:
                    due.append(own)
    assert "pyro_trace" in seen
    assert "pyro_call" not in seen
