"""The smallest cases of docs/peers.md print what stands below them, with the versions that they are of."""

import contextlib
import io
import re
from importlib import metadata
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "peers.md").read_text("utf-8")
DISTRIBUTIONS = {"Pyro": "pyro-ppl", "Pythae": "pythae"}
CASES = re.findall(r"### (Pyro|Pythae) (\S+): (.*?)\n.*?```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)


def test_there_are_cases() -> None:
    assert len(CASES) == PAGE.count("```python") == PAGE.count("\n### ") == 5


@pytest.mark.parametrize(("library", "version", "title", "code", "printed"), CASES, ids=lambda text: text[:30])
def test_a_smallest_case_prints_what_stands_below_it(library, version, title, code, printed) -> None:
    try:
        installed = metadata.version(DISTRIBUTIONS[library])
    except metadata.PackageNotFoundError:
        pytest.skip(f"{library} is not installed: pip install './plugins/vbench-peers[{library.lower()}]'")
    if installed != version:
        pytest.skip(f"seen in {library} {version}, {installed} is installed")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, title, "exec"), {"__name__": "case"})
    assert out.getvalue() == printed
