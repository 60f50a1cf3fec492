"""One small study and its page for all tests of this folder: drawing a page takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.report.small_studies import study as write
from vbench.report import contents as contents_of
from vbench.report import page as pages
from vbench.report import recount
from vbench.report.contents import Contents, contents
from vbench.report.evidence import Evidence, read_evidence
from vbench.report.page import Page, build


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("results") / "small")


@pytest.fixture(scope="session")
def evidence(study: Path) -> Evidence:
    return read_evidence(study)


@pytest.fixture(scope="session")
def found(evidence: Evidence) -> Contents:
    return contents(evidence)


@pytest.fixture(scope="session")
def page(found: Contents) -> Page:
    return build(found)


@contextmanager
def made_already(found: Contents, page: Page) -> Iterator[None]:
    """Within it, what writes or checks a page finds these contents and this page made."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (recount, contents_of):
            patch.setattr(module, "contents", lambda *given: found)
        for module in (recount, pages):
            patch.setattr(module, "build", lambda *given: page)
        yield


@pytest.fixture
def again(page: Page, found: Contents) -> Iterator[None]:
    """The small study is neither counted nor drawn anew for every test that checks its page.

    That it would be the same page is what :mod:`tests.report.test_page` holds.
    """
    with made_already(found, page):
        yield


@contextmanager
def blank_pictures() -> Iterator[None]:
    """Within it, pages have their pictures left blank: they are data, not markup, and dear to draw."""
    from matplotlib.figure import Figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "drawn", lambda *given: Figure())
        patch.setattr(pages, "save", lambda *given, **more: b"<svg/>")
        yield


@pytest.fixture
def blank() -> Iterator[None]:
    """See :func:`blank_pictures`."""
    with blank_pictures():
        yield
