"""The Python code of the README runs unchanged."""

from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, blocks

EXAMPLES = [block.text for block in blocks((ROOT / "README.md").read_text()) if block.language == "python"]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_python_examples_run(number: int, workspace: Path) -> None:
    (workspace / "zoo").symlink_to(ROOT / "zoo")
    exec(compile(EXAMPLES[number], "README.md", "exec"), {"__name__": "__main__"})


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 2
