"""The plugin host: built-ins through the hooks, strangers through entry points, and what can be wrong with them."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from tests.strangers import GOOD, install
from vbench import hookspecs
from vbench.catalogue import EVERY_KIND
from vbench.discovery import entry_points, fingerprint, version
from vbench.listing import PluginError, from_json, load_catalogue, to_json
from vbench.registry import PROVIDED, Registry, load_registry


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Load a registry of only the given strangers: (distribution, source) pairs."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def loaded(*plugins: tuple[str, str]) -> Registry:
        for distribution, source in plugins:
            install(tmp_path, distribution, source)
        importlib.invalidate_caches()
        registry = Registry()
        names = {distribution for distribution, _ in plugins}
        for point in entry_points():
            if point.dist and point.dist.name in names:
                registry.load(point)
        return registry

    before = set(sys.modules)
    yield loaded
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_built_ins_of_every_kind() -> None:
    catalogue = load_registry().catalogue()
    assert {"reparam", "stl", "iwae", "dreg", "renyi", "reinforce", "nvil", "rloo", "vimco"} <= set(
        catalogue.names("estimator")
    )
    assert {"gaussian", "bernoulli", "categorical", "conv-gaussian"} <= set(catalogue.names("encoder"))
    assert {"bernoulli", "gaussian", "linear-gaussian", "conv-bernoulli"} <= set(catalogue.names("decoder"))
    assert {"standard-normal", "bernoulli", "categorical", "gaussian-mixture"} <= set(catalogue.names("prior"))
    assert {"digits", "mnist", "frey", "linear-gaussian", "bernoulli-bars"} <= set(catalogue.names("dataset"))
    assert {c.distribution for c in catalogue if c.module.startswith("vbench.")} == {"vbench"}


METHODS = [c for c in load_registry().catalogue() if c.kind != "executor"]  # which are no method, and have no paper


@pytest.mark.parametrize("component", METHODS, ids=lambda c: f"{c.kind}:{c.name}")
def test_every_method_says_what_it_is_and_where_it_comes_from(component) -> None:
    assert component.summary.endswith(".")
    assert len(component.summary) < 100
    assert any(character.isdigit() for character in component.source), "a source with author, year and title"
    for parameter in component.parameters:
        assert parameter.help, parameter.name
        assert parameter.schema, parameter.name


@pytest.mark.parametrize("hook", [name for name in dir(hookspecs) if name.startswith("vbench_")])
def test_every_hook_is_documented_in_the_readme(hook: str) -> None:
    assert hook in (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    assert getattr(hookspecs, hook).__doc__


def test_what_a_factory_may_ask_for_is_documented() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    for name in set().union(*PROVIDED.values()):
        assert f"`{name}`" in readme


def test_a_stranger_is_loaded_with_its_parameters(load) -> None:
    registry = load(("vbench-good", GOOD.replace("NAME", "halved")))
    component = registry.get("estimator", "halved").component
    assert (component.distribution, component.version) == ("vbench-good", "1.0")
    assert component.summary == "Reparameterised ELBO under another name."
    assert component.source == "Nobody (2026), nothing."
    (k,) = component.parameters
    assert (k.name, k.default, k.help, k.schema["minimum"]) == ("k", 1, "samples", 1)
    assert registry.broken == []


BROKEN = {
    "import error": ("import no_such_module_anywhere", "No module named 'no_such_module_anywhere'"),
    "syntax error": ("def (", "SyntaxError"),
    "system exit": ("raise SystemExit(3)", "SystemExit: 3"),
    "misspelt hook": (
        "from vbench import hookimpl\n@hookimpl\ndef vbench_estimatorz():\n    return {}",
        "vbench_estimatorz",
    ),
    "hook with arguments": (
        "from vbench import hookimpl\n@hookimpl\ndef vbench_estimators(pm):\n    return {}",
        "vbench_estimators",
    ),
    "not a mapping": (
        "from vbench import hookimpl\n@hookimpl\ndef vbench_estimators():\n    return ['x']",
        "vbench_estimators returned list, expected a mapping",
    ),
    "hook raises": (
        "from vbench import hookimpl\n@hookimpl\ndef vbench_estimators():\n    raise RuntimeError('boom')",
        "RuntimeError: boom",
    ),
    "bad name": (
        "from vbench import hookimpl\n@hookimpl\ndef vbench_estimators():\n    return {'Bad Name': dict}",
        "'Bad Name' must be lower-case",
    ),
    "no factory": (
        "from vbench import hookimpl\n@hookimpl\ndef vbench_estimators():\n    return {'x': 3}",
        "'x' is int, expected a factory",
    ),
    "open signature": (
        "from vbench import hookimpl\ndef f(*args): pass\n@hookimpl\ndef vbench_estimators():\n    return {'x': f}",
        "must be an ordinary named one",
    ),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_plugin_is_listed_and_costs_nothing_else(load, source: str, reason: str) -> None:
    registry = load(("vbench-bad", source), ("vbench-good", GOOD.replace("NAME", "halved")))
    (broken,) = registry.broken
    assert broken.distribution == "vbench-bad"
    assert reason in broken.reason
    assert "\n" not in broken.reason
    assert registry.get("estimator", "halved")


def test_a_duplicate_name_names_both_distributions(load) -> None:
    registry = load(("vbench-one", GOOD.replace("NAME", "twice")), ("vbench-two", GOOD.replace("NAME", "twice")))
    (clash,) = registry.clashes
    assert "vbench-one" in clash
    assert "vbench-two" in clash
    assert "estimator 'twice'" in clash


def test_a_clash_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry()
    registry.clashes.append("estimator 'x' is registered by both a and b")
    monkeypatch.setattr("vbench.listing._cached", registry.catalogue)
    with pytest.raises(PluginError, match="both a and b"):
        load_catalogue()
    assert load_catalogue(strict=False).clashes


def test_catalogue_survives_json() -> None:
    catalogue = load_registry().catalogue()
    assert list(from_json(json.loads(json.dumps(to_json(catalogue))))) == list(catalogue)


def test_the_cached_catalogue_is_dropped_when_a_plugin_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = fingerprint()
    install(tmp_path, "vbench-late", GOOD)
    importlib.invalidate_caches()
    with_plugin = fingerprint()
    (tmp_path / "vbench_late.py").write_text(GOOD + "\n# one more line\n")
    assert len({before, with_plugin, fingerprint()}) == 3


def test_catalogue_is_read_back_without_the_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *a, **k: str(tmp_path))
    fresh = load_catalogue()
    monkeypatch.setattr("vbench.listing._fresh", lambda: pytest.fail("read from the plugins again"))
    assert list(load_catalogue()) == list(fresh)
    assert set(EVERY_KIND) == set(fresh.components)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("2", "ValueError: written for contract 2, vbench {v} keeps 1: upgrade vbench"),
        ("0", "ValueError: written for contract 0, vbench {v} keeps 1: upgrade the plugin"),
        ("'1'", "ValueError: vbench_contract is '1', expected a whole number such as 1"),
        ("True", "ValueError: vbench_contract is True, expected a whole number such as 1"),
    ],
)
def test_a_plugin_for_another_contract_is_one_clear_line(load, written: str, told: str) -> None:
    registry = load(("vbench-other", GOOD.replace("NAME", "halved") + f"\nvbench_contract = {written}\n"))
    (broken,) = registry.broken
    assert broken.reason.startswith(told.replace("{v}", version()))
    assert "halved" not in registry.components["estimator"]


def test_a_plugin_for_this_contract_or_an_older_one_that_is_kept_is_loaded(load, monkeypatch) -> None:
    monkeypatch.setattr(hookspecs, "CONTRACT", 3)
    for contract in (1, 2, 3):
        source = GOOD.replace("NAME", f"halved{contract}") + f"\nvbench_contract = {contract}\n"
        assert load((f"vbench-kept{contract}", source)).broken == []
    (broken,) = load(("vbench-new", GOOD.replace("NAME", "new") + "\nvbench_contract = 4\n")).broken
    assert "keeps 1 to 3: upgrade vbench" in broken.reason


def test_the_contract_is_documented() -> None:
    text = (Path(__file__).parent.parent / "docs" / "contract.md").read_text("utf-8")
    assert f"The contract is version {hookspecs.CONTRACT}" in text
    assert f"vbench_contract = {hookspecs.CONTRACT}" in text
