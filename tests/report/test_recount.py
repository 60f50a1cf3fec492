"""A page that says otherwise than its records is found out, wherever it lies."""

from __future__ import annotations

import re

import pytest

from tests.report.small_studies import commit, rows, study
from vbench.records import Store
from vbench.report.contents import contents
from vbench.report.evidence import read_evidence
from vbench.report.page import build
from vbench.report.recount import differences


@pytest.mark.usefixtures("again")
def test_an_honest_page_has_no_differences(page, evidence) -> None:
    assert differences(page.html, evidence) == []


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize("estimators", [["reparam"], ["reparam", "rloo[k=4]"]], ids=len)
def test_nor_has_one_of_a_single_seed(estimators, tmp_path) -> None:
    folder = study(tmp_path / "s", estimators, seeds=1)
    evidence = read_evidence(folder)
    page = build(contents(evidence))
    assert differences(page.html, evidence) == []


def first(pattern: str, html: str) -> str:
    return re.findall(pattern, html)[0]


def printed_value(html):
    """Text and exact value of one printed number, the list left alone."""
    tag = first(r'<data value="-93\.0"[^>]*data-f="value">-93\.00</data>', html)
    return html.replace(tag, tag.replace("93", "83"))


def printed_text(html):
    tag = first(r'<data value="-93\.0"[^>]*data-f="value">-93\.00</data>', html)
    return html.replace(tag, tag.replace(">-93.00", ">-92.99"))


def value_everywhere(html):
    return html.replace("-93.0", "-83.0")


def counts(html):
    """A failed seed made to look finished, in the list and in print."""
    html = html.replace('"n_ok":2,"n_total":3', '"n_ok":3,"n_total":3')
    return re.sub(r'<data value="2"([^>]*data-f="n_ok")>2<', r'<data value="3"\1>3<', html)


def total(html):
    """A failed seed forgotten altogether."""
    html = html.replace('"n_ok":2,"n_total":3', '"n_ok":2,"n_total":2')
    return re.sub(r"<tr>(.*survivors.*)</tr>", lambda row: row[0].replace(">3</data>", ">2</data>"), html)


def interval(html):
    return re.sub(r'"low":(-\d+)\.', r'"low":\g<1>1.', html, count=1)


def row(html):
    """A row and its numbers dropped from the page."""
    return re.sub(r"<tr><td>rloo\[k=4\]</td>.*</tr>\n", "", html, count=1)


def listed(html):
    return re.sub(r'\{"figure":"log-likelihood"[^}]*\},', "", html, count=1)


def status(html):
    return html.replace('class="status diverged">diverged</td>', 'class="status done">done</td>')


def reason(html):
    return html.replace("step 150: it is nan", "step 151: it is nan")


def cell(html):
    return re.sub(r'<tr data-cell="2cell0">.*</tr>\n', "", html)


def headline(html):
    return html.replace('<data value="8" data-count="done">8<', '<data value="9" data-count="done">9<')


def estimator(html):
    return html.replace('"estimator":"reparam"', '"estimator":"rloo[k=4]"')


def unlisted(html):
    return html.replace("</main>", '<data value="-1.0" data-n="99999" data-f="value">-1.00</data></main>')


def picture(html):
    """Another picture, the numbers left alone."""
    place = html.index("base64,") + 5000
    letter = "A" if html[place] != "A" else "B"
    return html[:place] + letter + html[place + 1 :]


def prose(html):
    return html.replace("Held-out log-likelihood</h2>", "Exact log-likelihood</h2>")


LIES = [
    printed_value, printed_text, value_everywhere, counts, total, interval, row, listed, status, reason, cell,
    headline, estimator, unlisted, picture, prose,
]  # fmt: skip


@pytest.mark.usefixtures("blank")
def test_records_that_came_later_are_missing_from_the_page(tmp_path) -> None:
    folder = study(tmp_path / "s", ["reparam"], seeds=2)
    before = build(contents(read_evidence(folder)))
    commit(Store(folder), "reparam", 2, measured=rows("reparam", 2))
    now = read_evidence(folder)
    found = differences(before.html, now)
    assert any("n_ok is 2 on the page, 3 by the records" in line for line in found)
    assert "cell 1cell2: missing from the page" in found


@pytest.mark.usefixtures("blank")
def test_a_wrong_average_in_the_page_maker_is_found(monkeypatch, tmp_path) -> None:
    """The recount shares no arithmetic with what it counts again."""
    from vbench.report import averages, numbers

    wrong = lambda values: averages.mean(values)._replace(value=max(values))  # noqa: E731
    monkeypatch.setitem(numbers._STATISTICS, "mean", wrong)
    evidence = read_evidence(study(tmp_path / "s", ["reparam"]))
    page = build(contents(evidence))
    found = differences(page.html, evidence)
    assert any(line.startswith("log-likelihood log_likelihood test all step 200") for line in found)


def test_a_page_without_a_list_is_refused(page, evidence) -> None:
    with pytest.raises(ValueError, match="no list of numbers"):
        differences("<html></html>", evidence)


@pytest.mark.usefixtures("again")
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_tampered_page_is_found(lie, page, evidence) -> None:
    told = lie(page.html)
    assert told != page.html
    assert differences(told, evidence)


@pytest.mark.usefixtures("again")
@pytest.mark.parametrize("lie", [v for v in LIES if v not in (picture, prose)], ids=lambda lie: lie.__name__)
def test_also_one_that_other_code_wrote(lie, page, evidence) -> None:
    """Where bytes cannot be compared, every number still is."""
    other = page.html.replace('name="generator" content="vbench', 'name="generator" content="other')
    assert differences(other, evidence) == []
    assert differences(lie(other), evidence)
