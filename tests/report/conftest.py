from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.small_studies import study as write
from vbench.report.contents import contents
from vbench.report.evidence import Evidence, read_evidence
from vbench.report.page import Page, build


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("results") / "small")


@pytest.fixture(scope="session")
def evidence(study: Path) -> Evidence:
    return read_evidence(study)


@pytest.fixture(scope="session")
def page(evidence: Evidence) -> Page:
    return build(contents(evidence))
