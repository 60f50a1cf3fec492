"""Published values beside ours: who stands beside whom, what a stranger's file can say, what a page may not."""

from __future__ import annotations

import csv
import io

import pytest
from markupsafe import escape

from tests.report.conftest import blank_pictures, made_already
from tests.report.small_studies import study as write
from tests.report.test_page import PAYLOADS, Parsed
from vbench.report.contents import contents
from vbench.report.evidence import plain, read_evidence
from vbench.report.page import build
from vbench.report.published import PublishedError, read_published
from vbench.report.reader import read_page
from vbench.report.recount import differences

FILE = """source,metric,value,std_error,unit,net,cells
Burda et al. 2016,log_likelihood,-84.780,,nats,one layer,estimator=iwae dataset=digits
"Nobody, 2020",elbo,-90,0.5,nats,,dataset=digits
Nobody 2021,elbo,-91,,nats,two layers,
Nobody 2022,elbo,-92,,nats,,prior=vamp
Nobody 2025,elbo,-92,,nats,,prior=vamp estimator=iwae dataset=digits
Nobody 2023,fid,3.1e0,,,,estimator=reparam
Nobody 2024,elbo,-93,,nats,,enkoder=gaussian
"""


@pytest.fixture(scope="module", autouse=True)
def blank():
    with blank_pictures():
        yield


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("results") / "published")
    (folder / "published.csv").write_text(FILE, "utf-8")
    return read_evidence(folder)


@pytest.fixture(scope="module")
def found(evidence):
    return contents(evidence)


@pytest.fixture(scope="module")
def page(found):
    return build(found)


@pytest.fixture(scope="module")
def html(page):
    return page.html


@pytest.fixture
def counted(found, page):
    """The study is not counted anew for every page that is changed."""
    with made_already(found, page):
        yield


def test_each_value_stands_beside_the_cells_that_its_row_asks_for(found) -> None:
    rows = {value["source"]: value for value in found.published}
    (ours,) = rows["Burda et al. 2016"]["ours"]
    assert ours["estimator"] == "iwae[k=5]"
    assert ours["value"] == pytest.approx((-93.0 - 94.0 - 98.5) / 3 + 2)
    assert (ours["n_ok"], ours["n_total"]) == (3, 3)
    assert ours["low"] < ours["value"] < ours["high"]
    assert [row["estimator"] for row in rows["Nobody, 2020"]["ours"]] == ["iwae[k=5]", "reparam", "rloo[k=4]"]
    assert (rows["Burda et al. 2016"]["value"], rows["Burda et al. 2016"]["setting"]) == ("-84.780", "net one layer")


def test_what_has_no_match_is_shown_with_the_reason_and_no_number(found, html) -> None:
    why = {value["source"]: value["why"] for value in found.published if not value["ours"]}
    assert why == {
        "Nobody 2021": "no cell of this study is meant",
        "Nobody 2022": "no cell of this study has these",
        "Nobody 2025": "no cell of this study has these",
        "Nobody 2023": "not measured here",
        "Nobody 2024": "no cell of this study has a column 'enkoder' (did you mean 'encoder'?)",
    }
    for source, text in why.items():
        assert source in html
        assert str(escape(text)) in html
    assert ">-84.780</data>" in html


def test_an_honest_page_has_no_differences(html, evidence) -> None:
    assert differences(html, evidence) == []
    assert len(read_page(html).published) == 7


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("-84.780", "-84.790"),  # in the list and in print
        ('data-f="value">-84.780<', 'data-f="value">-84.7<'),  # in print alone
        ('data-f="std_error">0.5<', 'data-f="std_error">0.05<'),
        ("Nobody 2021", "Somebody 2021"),
        ("net two layers", "net one layer"),
        ("no cell of this study has these", ""),
        ('["Nobody 2022"', '["Nobody 2025"'),  # in the list alone
    ],
)
@pytest.mark.usefixtures("counted")
def test_a_changed_value_setting_or_source_is_found_out(old, new, html, evidence) -> None:
    assert old in html
    assert any("published value" in line for line in differences(html.replace(old, new), evidence))


@pytest.mark.usefixtures("counted")
def test_a_changed_number_of_ours_is_found_out(html, evidence, found) -> None:
    number = found.published[0]["ours"][0]
    exact = repr(number["value"])
    assert any("published log_likelihood" in line for line in differences(html.replace(exact, exact + "1"), evidence))


def test_a_page_of_another_file_is_found_out(html, evidence) -> None:
    from dataclasses import replace

    for text in (FILE.replace("-84.780", "-84.78"), FILE.replace("estimator=iwae", "estimator=reparam"), None):
        assert differences(html, replace(evidence, published=text)) != []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("source,metric\nA,elbo\n", "line 1: no column 'value'"),
        ("sorce,metric,value\nA,elbo,1\n", "line 1: no column 'source' (did you mean 'sorce'?)"),
        ("source,metric,value,value\nA,elbo,1,2\n", "line 1: two columns 'value'"),
        ("source,metric,value\nA,elbo\n", "line 2: 2 values under 3 columns"),
        ("source,metric,value\nA,elbo,1\nB,elbo,one\n", "line 3: value 'one' is no number"),
        ("source,metric,value\nA,elbo,nan\n", "line 2: value 'nan' is no number"),
        ("source,metric,value\nA,elbo,\n", "line 2: no value"),
        ("source,metric,value\n,elbo,1\n", "line 2: no source"),
        ("source,metric,value,std_error\nA,elbo,1,x\n", "line 2: std_error 'x' is no number"),
        ('source,metric,value\n"A,elbo,1\n', "line 2: unexpected end of data"),
        ("source,metric,value,cells\nA,elbo,1,prior\n", "line 2: cells: 'prior' is no column=value"),
        ('source,metric,value,cells\nA,elbo,1,"prior=\'x"\n', "line 2: cells: No closing quotation"),
    ],
)
def test_a_malformed_file_is_one_clear_line(text, message) -> None:
    with pytest.raises(PublishedError) as error:
        read_published(text)
    assert str(error.value) == f"published.csv{':' if text == '' else ''} {message}"


def test_it_costs_its_own_table_alone(evidence) -> None:
    from dataclasses import replace

    broken = replace(evidence, published="source,metric,value\nA,elbo,1\nB,elbo,one\n")
    found = contents(broken)
    assert found.published == []
    assert dict(found.missing)["Published values"] == "published.csv line 3: value 'one' is no number"
    assert found.summary


def test_nothing_in_a_hostile_file_becomes_markup(evidence, html) -> None:
    from dataclasses import replace

    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["source", "metric", "value", "unit", "cells", '<b onclick="x">'])
    for payload in (p for p in PAYLOADS if plain(p).strip()):
        writer.writerow([payload, payload, "1", payload, "dataset=digits", payload])
    hostile = replace(evidence, published=out.getvalue())
    page = build(contents(hostile)).html
    assert differences(page, hostile) == []
    mine, plainly = Parsed(page), Parsed(html)
    assert set(mine.tags) == set(plainly.tags)
    assert {name for _, name in mine.attributes} == {name for _, name in plainly.attributes}
    assert mine.tags["script"] == plainly.tags["script"]
