"""The house rules that a reader relies on: small classes, short files, one name for one class, the field's words."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "genai").rglob("*.py"))
MAX_METHODS, MAX_LINES = 15, 350
TEXTS = [*MODULES, *sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", *sorted((ROOT / "configs").rglob("*.yaml"))]
WORDS = (
    "told|yardsticks?|beliefs?|believes?|narrowness|dissolves?|emerges?|weaker|players?|the game|judged?|drowned|"
    "in the place of|of which|nothing said|without chance|asked for|is asked|are asked|descends?"
)
PRIVATE = re.compile(rf"\b({WORDS})\b", re.IGNORECASE)


def classes(path: Path) -> list[ast.ClassDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]


def methods(node: ast.ClassDef) -> list[str]:
    return [part.name for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_and_classes_are_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
    for node in classes(path):
        number = len(methods(node))
        assert number <= MAX_METHODS, f"{node.name} has {number} methods: compose it of objects"


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(list)
    for path in MODULES:
        for node in classes(path):
            places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_its_job_first(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_fields_words_are_used(path: Path) -> None:
    lines = enumerate(path.read_text().splitlines(), start=1)
    assert [f"{number}: {line.strip()}" for number, line in lines if PRIVATE.search(line)] == []
