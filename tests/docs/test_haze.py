"""docs/results/haze.md: its lines of Python run, here on a few digits."""

from pathlib import Path
from typing import Any

import pytest

from tests.docs.markdown import ROOT, blocks


def test_the_lines_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path))
    page = (ROOT / "docs/results/haze.md").read_text()
    lines = next(block.text for block in blocks(page) if block.language == "python")
    for old, new in (("zoo/mnist-gan", "zoo/digits-diffusion"), ('"mnist"', '"digits"'), ("10_000", "32"), ("1_000", "32")):
        assert old in lines
        lines = lines.replace(old, new)
    names: dict[str, Any] = {}
    exec(lines, names)
    assert names["before"].scores["haze"] > names["after"].scores["haze"]
