"""The page as a browser parses it: nothing in a name becomes markup, nothing is loaded, everything is said."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from tests.report.small_studies import LABELS, commit, rows, study
from vbench.records import Store
from vbench.report.contents import contents
from vbench.report.evidence import read_evidence
from vbench.report.page import build

PAYLOADS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><style>*{display:none}</style>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<a href='javascript:alert(1)'>x</a>",
    "<base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<object data=x>",
    "<embed src=x>",
    "<form action=//evil.example><button>",
    "<input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<template><b>x</b></template>",
    "<math><mtext></mtext></math>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<table><tr><td>x",
    "</td></tr></table><h1>x</h1>",
    "</textarea><b>",
    "</title><b>x</b>",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "{# x #}",
    "${7*7}",
    "%3Cscript%3E",
    "&lt;script&gt;",
    "&amp;&quot;&#39;",
    "&#x3c;b&#x3e;",
    "\\u003cscript\\u003e",
    "\u2028alert(1)\u2029",
    "\x00<b>",
    "\x1b[31mred\x1b[0m",
    "\u202egnp.exe",
    "\ufeffx",
    "<\x0cscript>",
    "=cmd|'/c calc'!A1",
    "@SUM(1+1)",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "<b",
    "b>",
    "<",
    ">",
    "`",
    "'",
    '"',
    "\n</script>\n",
    "<plaintext>",
    "<xmp>",
    "<frameset>",
    "<style>@import url(//evil.example)</style>",
    "_",
    "../../etc/passwd",
]


class Parsed(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: Counter[tuple[str, str]] = Counter()
        self.values: dict[tuple[str, str], list[str]] = {}
        self.inside: dict[str, str] = {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.open = tag
        for name, value in attrs:
            self.attributes[tag, name] += 1
            self.values.setdefault((tag, name), []).append(value or "")

    def handle_endtag(self, tag):
        self.open = ""

    def handle_data(self, data):
        self.inside[self.open] = self.inside.get(self.open, "") + data

    open = ""


def outcomes(folder, names):
    """A study in which everything that a stranger can name has one of these names, one after the other."""
    store = Store(folder)
    for number, name in enumerate(names):
        labels = dict.fromkeys(LABELS, name)
        measured = [row for row in rows("reparam", 0) if not row.metric.startswith(("gradient", "work"))]
        commit(store, name, 0, measured=measured, labels=labels, key=f"cell{number}")
        commit(store, name, 1, "failed", reason=name, labels=labels, key=f"failed{number}")
    return read_evidence(folder)


def gradients(folder, names):
    """The same for estimators of one model, all compared with each other."""
    store = Store(folder)
    for number, name in enumerate(names):
        commit(store, name, 0, measured=rows("reparam", 0), key=f"cell{number}")
    return read_evidence(folder)


def html_of(evidence) -> str:
    return build(contents(evidence)).html


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize(
    ("make", "payloads"), [(outcomes, PAYLOADS), (gradients, PAYLOADS[:6])], ids=["every name", "estimators"]
)
def test_a_hostile_name_adds_no_element_and_no_attribute(make, payloads, tmp_path) -> None:
    hostile = html_of(make(tmp_path / "hostile" / "study", payloads))
    harmless = html_of(make(tmp_path / "harmless" / "study", [f"name-{i}" for i in range(len(payloads))]))
    assert Parsed(hostile).tags == Parsed(harmless).tags
    assert Parsed(hostile).attributes == Parsed(harmless).attributes
    spoilt = harmless.replace("name-0", payloads[0], 1)  # what the parser would see of an unescaped name
    assert Parsed(spoilt).tags != Parsed(harmless).tags


def test_the_policy_allows_only_what_is_in_the_page(page) -> None:
    parsed = Parsed(page.html)
    (policy,) = [v for v in parsed.values["meta", "content"] if v.startswith("default-src")]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    script = re.findall(r"<script>(.*?)</script>", page.html, re.DOTALL)
    style = re.findall(r"<style>(.*?)</style>", page.html, re.DOTALL)
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": f"'sha256-{hashed(*style)}'",
        "script-src": f"'sha256-{hashed(*script)}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert page.html.index("Content-Security-Policy") < page.html.index("<title>")


def hashed(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_nothing_is_loaded_and_no_style_or_handler_stands_in_an_attribute(page) -> None:
    parsed = Parsed(page.html)
    for (_, name), values in parsed.values.items():
        if name in ("src", "srcset", "href", "action", "data", "poster"):
            assert all(value.startswith(("data:image/svg+xml;base64,", "#")) for value in values)
        assert name != "style"
        assert not name.startswith("on")
    pictures = re.findall(r"base64,([A-Za-z0-9+/=]+)", page.html)
    for picture in pictures:
        svg = base64.b64decode(picture).decode()
        assert svg.startswith("<?xml")
        assert not re.search(r'(href|src)="(?!#|data:image/png)', svg)
    assert len(pictures) == 2 * len(page.figures)


def test_every_figure_says_what_it_shows_and_how_many_seeds_finished(page) -> None:
    parsed = Parsed(page.html)
    alts = parsed.values["img", "alt"]
    assert len(alts) == len(page.figures) == 10
    assert all("rloo[k=4] 2/3" in alt for alt in alts if "Paired" not in alt)
    assert parsed.values["html", "lang"] == ["en"]


def test_what_is_missing_is_said_with_the_reason(page) -> None:
    assert "Cosine to the target gradient: no gradient_cosine (train, all) in the records." in page.html


def test_survivors_are_flagged_where_they_are_averaged(page) -> None:
    for figure in ("elbo-steps", "log-likelihood", "gradient-variance"):
        section = page.html[page.html.index(f'<section id="{figure}">') :]
        section = section[: section.index("</section>")]
        short = [line for line in section.splitlines() if "<td>rloo[k=4]</td>" in line]
        assert short
        assert all(">2</data>/" in line and "survivors" in line for line in short)
        assert all("survivors" not in line for line in section.splitlines() if "<td>reparam</td>" in line)
        assert "Open marks: fewer seeds than asked for: rloo[k=4]." in section


def test_failures_and_skips_are_rows_of_the_cells(page) -> None:
    assert "step 150: it is nan" in page.html
    assert "needs pathwise" in page.html
    assert '<data value="8" data-count="done">8</data>' in page.html


@pytest.mark.usefixtures("blank")
def test_stale_results_are_marked(tmp_path) -> None:
    from vbench.provenance import code_digest
    from vbench.records import Outcome

    folder = study(tmp_path / "small", ["reparam"], 1)
    for seed, code in ((1, "old"), (2, code_digest())):
        sources = {"code": code, "plugins": [], "version": "0"}
        labels = LABELS | {"estimator": f"code-{code[:3]}"}
        facts = {"bound": "ELBO(kind='lower', linear=True, smooth=True)", "k": 1}
        outcome = Outcome(f"cell{seed}", "done", "", labels, seed, provenance=sources, facts=facts)
        Store(folder).commit(outcome, rows("reparam", 0))
    found = read_evidence(folder)
    assert found.stale == {"cell1"}
    html = html_of(found)
    assert "1 results are stale: vbench&#39;s own code has changed" in html
    (line,) = [line for line in html.splitlines() if 'scope="row"' in line and "code-old" in line]
    assert "stale" in line


def test_numbers_are_there_for_scripts_with_their_source(page) -> None:
    island = json.loads(re.findall(r'id="numbers">(.*?)</script>', page.html, re.DOTALL)[0])
    (number,) = [n for n in island["numbers"] if n["figure"] == "log-likelihood" and n["n_ok"] == 2]
    assert number["value"] == -95
    assert island["combinations"][number["combination"]]["estimator"] == "rloo[k=4]"
    assert (number["statistic"], number["metric"], number["split"], number["step"]) == (
        "mean", "log_likelihood", "test", 200,
    )  # fmt: skip


def test_the_same_records_give_the_same_page(page, evidence) -> None:
    assert html_of(evidence) == page.html


def test_nothing_ran(tmp_path) -> None:
    commit(Store(tmp_path / "s"), "reparam", 0, "skipped", reason="needs pathwise", key="skipped0")
    html = html_of(read_evidence(tmp_path / "s"))
    assert "Nothing ran: every cell was skipped." in html
    assert "needs pathwise" in html
