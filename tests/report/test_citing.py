"""What a study used, and its BibTeX; no model is trained for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner
from pybtex.database import parse_string

from vbench.catalogue import Catalogue, Component
from vbench.cli import main
from vbench.listing import load_catalogue
from vbench.records import Outcome, Store
from vbench.report.citing import bibliography, used
from vbench.sources import keyed, parse_source


def spec(estimator: str = "rloo", **measure: object) -> dict[str, object]:
    names = {"dataset": "digits", "encoder": "gaussian", "decoder": "bernoulli", "prior": "standard-normal"}
    parts = {kind: {"name": name, "parameters": {}} for kind, name in (names | {"estimator": estimator}).items()}
    return {**parts, "seed": 0, "measure": measure}


def outcome(key: str, what: dict[str, object], status: str = "done") -> Outcome:
    return Outcome(key, status, "", {}, 0, spec=what)


def said(*command: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, [str(word) for word in command])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def entries(text: str) -> dict[str, dict[str, str]]:
    return {key: dict(entry.fields) for key, entry in parse_string(text, "bibtex").entries.items()}


CATALOGUE = load_catalogue(strict=False)
EVERY = sorted((c.kind, c.name) for c in CATALOGUE if c.kind != "executor")


@pytest.mark.parametrize("component", EVERY, ids=":".join)
def test_every_registered_component_gives_well_formed_entries(component: tuple[str, str]) -> None:
    found, warnings = bibliography([component], CATALOGUE)
    assert warnings == []
    assert len(found) > 1
    for entry in list(parse_string("\n\n".join(found), "bibtex").entries.values())[1:]:
        assert entry.fields["title"].startswith("{")
        assert 1900 < int(entry.fields["year"]) < 2100
        assert all(person.last_names for person in entry.persons["author"])
        assert {"doi", "eprint", "url", "howpublished"} & set(entry.fields) or entry.fields["year"] == "2000"


def test_all_of_them_together_have_keys_of_their_own() -> None:
    found, _ = bibliography(EVERY, CATALOGUE)
    keys = list(parse_string("\n\n".join(found), "bibtex").entries)
    assert keys[0] == "vbench"
    works = keyed(w for each in EVERY for w in parse_source(CATALOGUE.get(*each).source))
    assert keys[1:] == sorted(work.key for work in works.values())


def test_keys_do_not_depend_on_what_else_is_cited() -> None:
    catalogue = load_catalogue(strict=False)
    alone = entries("\n\n".join(bibliography([("estimator", "iwae")], catalogue)[0]))
    beside = entries("\n\n".join(bibliography([("estimator", "iwae"), ("estimator", "dreg")], catalogue)[0]))
    assert alone.items() <= beside.items()
    assert "burda2016importance" in alone


def test_a_study_is_cited_by_all_that_it_ran(tmp_path: Path) -> None:
    study = Store(tmp_path / "study")
    gradients = {"target": "iwae[k=64]", "reference": {"estimator": "reparam[kl=sampled]"}}
    study.commit(outcome("aaaa", spec("rloo", gradients=gradients, log_likelihood={"method": "iwae", "k": 10})))
    study.commit(outcome("bbbb", spec("vimco"), "skipped"))
    code, text, warnings = said("cite", study.folder)
    assert (code, warnings) == (0, "")
    found = entries(text)
    assert next(iter(found)) == "vbench"
    assert found["vbench"]["version"]
    assert {"kool2019buy", "salimans2014using", "burda2016importance", "kingma2014autoencoding"} < found.keys()
    assert "mnih2016variational" not in found  # it was skipped
    assert "% decoder:bernoulli, encoder:gaussian, estimator:reparam, prior:standard-normal" in text


def test_what_cannot_be_cited_is_named(tmp_path: Path) -> None:
    def names(outcomes: Iterable[Outcome]) -> tuple[list[str], list[str]]:
        own = Component("estimator", "mine", "somewhere", "1", source="a note on my desk")
        return bibliography(used(outcomes), Catalogue({"estimator": {"mine": own}}))

    found, warnings = names([outcome("aaaa", {"estimator": {"name": "mine"}, "encoder": {"name": "gone"}})])
    assert len(found) == 1
    assert warnings == [
        "encoder:gone is not installed here: its source is not known",
        "estimator:mine cannot be cited: no work in 'a note on my desk'",
    ]


def test_without_a_study_vbench_alone_is_cited() -> None:
    code, text, _ = said("cite")
    assert code == 0
    assert list(entries(text)) == ["vbench"]


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    code, _, text = said("cite", tmp_path)
    assert code == 2
    assert len(text.splitlines()) == 1
    assert "no results in" in text
