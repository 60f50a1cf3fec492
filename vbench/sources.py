r"""The ``Source:`` lines of docstrings as works, and works as BibTeX. No torch.

A source is one work or several with ``;`` between them, and a work is::

    Mnih & Gregor (2014), Neural Variational Inference and Learning in Belief Networks, arXiv:1402.0030, section 3

authors by surname (``et al.`` for those not named), year, title, where it appeared if that is all there is, then
``arXiv:...``, ``doi:...`` or an address, and whatever points into it. A title that could be mistaken stands in double
quotes. What has no year in parentheses (``file of github.com/...``) is a remark.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

__all__ = ["VBENCH", "SourceError", "Work", "bibtex", "keyed", "parse_source", "tex"]

_PARTICLES: Final = frozenset(
    {
        *("van", "von", "den", "der", "de", "la", "le", "du", "di", "da", "dos", "del"),
        *("ten", "ter", "el", "al", "bin", "af", "av", "zu", "zur", "y"),
    }
)
_STOP: Final = frozenset(
    {*("a", "an", "the", "on", "of", "in", "for", "to", "and", "with", "by", "from", "at", "as", "is", "are")}
)
_YEAR: Final = re.compile(r"\((\d{4})\)")
_PLACE: Final = re.compile(
    r"arXiv:(?P<arxiv>(?:[a-z-]+(?:\.[A-Z]{2})?/\d{7}|\d{4}\.\d{4,5})(?:v\d+)?)"
    r"|doi:(?P<doi>10\.\d{4,9}/[^\s;,{}\\]*[^\s;,.{}\\])"
    r"|(?P<url>https?://[^\s;,{}\\]*[^\s;,.{}\\])"
)
# a journal, a meeting or a publisher rather than the rest of a title
_VENUE: Final = re.compile(
    r"[A-Z]{3,}s?\b|.*\b(?:Proceedings|Conference|Workshop|Journal|Transactions|Repository|Press|thesis|Report)\b"
    r"|.*\b(?:Annals|Statistica)\b"
)


class SourceError(ValueError):
    """A source that is no list of works; says which part is not."""


@dataclass(frozen=True)
class Work:
    """One work that can be cited.

    Attributes:
        authors: surnames, also ``Kingma, D. P.``.
        others: whether there are authors besides.
        arxiv, doi, url: where it is found; empty where not known.
        venue: where it appeared, as far as its source says.
    """

    authors: tuple[str, ...]
    year: int
    title: str
    others: bool = False
    arxiv: str = ""
    doi: str = ""
    url: str = ""
    venue: str = ""

    @property
    def key(self) -> str:
        """``mnih2014neural``: surname, year, and the first telling word of the title."""
        words = [word for word in re.split(r"[^a-z0-9-]+", _ascii(self.title).lower()) if word.strip("-")]
        telling = next((word for word in words if word not in _STOP), "".join(words))
        surname = _ascii(self.authors[0].partition(",")[0]).lower()
        return f"{re.sub('[^a-z]', '', surname)}{self.year}{re.sub('[^a-z0-9]', '', telling)}"

    @property
    def names(self) -> frozenset[str]:
        """All that it is known by: two works that share one are the same."""
        words = re.sub(r"[^a-z0-9]+", " ", _ascii(self.title).lower()).strip()
        first = _ascii(self.authors[0].partition(",")[0]).lower()
        places = {"arxiv": re.sub(r"v\d+$", "", self.arxiv), "doi": self.doi.lower(), "url": self.url}
        return frozenset({f"{first} {self.year} {words}", *(f"{kind}:{text}" for kind, text in places.items() if text)})


VBENCH: Final = Work(
    ("The vbench authors",), 2026, "vbench: benchmarks of variational objectives, judged against exact gradients"
)


def parse_source(text: str) -> list[Work]:
    """The works of a source, remarks left out.

    >>> parse_source("Li & Turner (2016), Renyi Divergence Variational Inference, arXiv:1602.02311.")[0].key
    'li2016renyi'

    Raises:
        SourceError: a part that has a year is no work, or no part has one.
    """
    works = [_work(part) for part in _split(text) if _YEAR.search(_outside_notes(part))]
    if not works:
        raise SourceError(f"no work in {text!r}" if text else "no source")
    return works


def _split(text: str) -> list[str]:
    """The parts between semicolons that stand outside parentheses and quotes."""
    parts, depth, quoted, start = [], 0, False, 0
    for i, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif not quoted and char in "()":
            depth += 1 if char == "(" else -1
        elif char == ";" and not quoted and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [part.strip() for part in [*parts, text[start:]] if part.strip()]


def _outside_notes(part: str) -> str:
    """Without parentheses that hold more than a year."""
    return re.sub(r"\((?!\d{4}\))[^()]*\)", "", part)


def _work(text: str) -> Work:
    year = _YEAR.search(text)
    if year is None:  # it stands inside a note
        raise SourceError(f"no year in {text!r}")
    authors, others = _authors(text[: year.start()].strip(), text)
    rest = text[year.end() :].lstrip(", ")
    place = _PLACE.search(rest)
    named = (rest[: place.start()] if place else _outside_notes(rest)).strip(" ,.")
    title, venue = _title(named)
    if not title:
        raise SourceError(f"no title in {text!r}")
    if place is None and re.search(r"(?i)\b(?:arXiv|doi):", rest):
        raise SourceError(f"no arXiv number or DOI that could be one in {text!r}")
    found: Mapping[str, str] = {k: v for k, v in place.groupdict().items() if v} if place else {}
    return Work(authors, int(year[1]), title, others, venue=venue, **found)


def _authors(text: str, whole: str) -> tuple[tuple[str, ...], bool]:
    """Surnames, and whether there are others; words before the first name (``pianorolls of``) are dropped."""
    shortened = re.sub(r",?\s*\bet al\.?$", "", text)
    parts = [part.strip() for part in re.split(r"\s*(?:,|&|\band\b)\s*", shortened) if part.strip()]
    names: list[str] = []
    for number, part in enumerate(parts):
        if names and re.fullmatch(r"(?:[^\W\d_]\.[\s-]?)+", part):  # initials belong to the surname before them
            names[-1] += f", {part}"
            continue
        words = part.split()
        own: list[str] = []
        while words and (words[-1][0].isupper() or (own and words[-1] in _PARTICLES)):
            own.insert(0, words.pop())
        if not own or (words and number):
            raise SourceError(f"no authors before the year in {whole!r}")
        names.append(" ".join(own))
    if not names:
        raise SourceError(f"no authors before the year in {whole!r}")
    return tuple(names), shortened != text


def _title(text: str) -> tuple[str, str]:
    """Title and venue of what stands before the place."""
    if quoted := re.match(r'"([^"]+)"[,\s]*', text):
        return quoted[1].strip(), text[quoted.end() :].strip(" ,.")
    parts = [part.strip() for part in text.split(",")]
    first = next((i for i, part in enumerate(parts) if i and _VENUE.match(part)), len(parts))
    return ", ".join(parts[:first]), ", ".join(parts[first:])


def keyed(works: Iterable[Work]) -> dict[str, Work]:
    """Each work once, by its key; of what two sources say of one work the fuller stands.

    Two works of one key get a piece of their own names' digest behind it.
    """
    merged: list[Work] = []
    for work in works:
        same = [other for other in merged if other.names & work.names]
        for other in same:
            merged.remove(other)
            work = _fuller(other, work)
        merged.append(work)
    keys = [work.key for work in merged]
    found = {work.key if keys.count(work.key) == 1 else f"{work.key}{_mark(work)}": work for work in merged}
    return dict(sorted(found.items()))


def _fuller(one: Work, other: Work) -> Work:
    longer = max(one, other, key=lambda work: (len(work.title), work.title))
    most = max(one, other, key=lambda work: (not work.others, len(work.authors)))
    places = {name: getattr(one, name) or getattr(other, name) for name in ("arxiv", "doi", "url", "venue")}
    return replace(longer, authors=most.authors, others=most.others, **places)


def _mark(work: Work) -> str:
    return hashlib.sha256("\n".join(sorted(work.names)).encode()).hexdigest()[:6]


_ACCENTS: Final[Mapping[str, str]] = {
    "\u0300": "\\`",
    "\u0301": "\\'",
    "\u0302": "\\^",
    "\u0303": "\\~",
    "\u0304": "\\=",
    "\u0306": "\\u ",
    "\u0307": "\\.",
    "\u0308": '\\"',
    "\u030a": "\\r ",
    "\u030b": "\\H ",
    "\u030c": "\\v ",
    "\u0327": "\\c ",
    "\u0328": "\\k ",
}
_LETTERS: Final[Mapping[str, str]] = {
    **{char: f"\\{char}" for char in "&%$#_"},
    **{"{": "\\{", "}": "\\}", "\\": "{\\textbackslash}", "~": "{\\textasciitilde}", "^": "{\\textasciicircum}"},
    **{"ß": "{\\ss}", "ø": "{\\o}", "Ø": "{\\O}", "ł": "{\\l}", "Ł": "{\\L}", "æ": "{\\ae}", "Æ": "{\\AE}"},
    **{"–": "--", "—": "---", "’": "'", "“": "``", "”": "''", "ı": "{\\i}", "œ": "{\\oe}", "ð": "{\\dh}"},
}  # fmt: skip


def tex(text: str) -> str:
    r"""Text as TeX has it: its special characters escaped, accents by macros.

    >>> tex("Gödel & Erdős")
    'G{\\"o}del \\& Erd{\\H o}s'
    """
    found: list[str] = []
    for char in unicodedata.normalize("NFD", " ".join(text.split())):
        if char in _ACCENTS and found:
            found[-1] = f"{{{_ACCENTS[char]}{found[-1]}}}"
        else:
            found.append(_LETTERS.get(char, char))
    return unicodedata.normalize("NFC", "".join(found))


def _ascii(text: str) -> str:
    plain = "".join({"ß": "ss", "ø": "o", "ł": "l", "æ": "ae", "œ": "oe"}.get(c.lower(), c) for c in text)
    return unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()


def bibtex(key: str, work: Work, remarks: Sequence[str] = (), *, corporate: bool = False, **more: str) -> str:
    """One entry, with remarks before it, where BibTeX reads nothing.

    Args:
        key: of the entry.
        work: what is cited.
        remarks: a line each.
        corporate: the author is no person, whose name would be taken apart.
        more: further fields, as they are to stand there.
    """
    names = [f"{{{tex(name)}}}" if corporate else tex(name) for name in work.authors]
    fields = {
        "author": " and ".join([*names, *(["others"] if work.others else [])]),
        "title": f"{{{tex(work.title)}}}",  # of braces its own, so that no style writes it small
        "year": str(work.year),
        "howpublished": tex(work.venue),
        "eprint": work.arxiv,
        "archiveprefix": "arXiv" if work.arxiv else "",
        "doi": work.doi,
        "url": work.url or (f"https://arxiv.org/abs/{work.arxiv}" if work.arxiv else ""),
        **more,
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    # an at sign would begin an entry
    before = [f"% {remark}".replace("@", "(at)") for remark in remarks]
    return "\n".join([*before, f"@misc{{{key},", *lines, "}"])
