"""The house rules that a reader relies on: small classes, short files, one name for one class, the field's words."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "genai").rglob("*.py"))
MAX_METHODS, MAX_LINES = 15, 350
TEXTS = [*MODULES, *sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", *sorted((ROOT / "configs").rglob("*.yaml"))]
WORDS = (
    "told|yardsticks?|beliefs?|believes?|narrowness|dissolves?|emerges?|weaker|players?|the game|judged?|drowned|"
    "in the place of|of which|nothing said|without chance|asked for|is asked|are asked|descends?"
)
PRIVATE = re.compile(rf"\b({WORDS})\b", re.IGNORECASE)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def classes(path: Path) -> list[ast.ClassDef]:
    return [node for node in ast.walk(parsed(path)) if isinstance(node, ast.ClassDef)]


def methods(node: ast.ClassDef) -> list[str]:
    return [part.name for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_files_are_short_and_classes_are_small() -> None:
    long = {str(path.relative_to(ROOT)): n for path in MODULES if (n := len(path.read_text().splitlines())) > MAX_LINES}
    assert long == {}, f"split files of more than {MAX_LINES} lines"
    large = {node.name: n for path in MODULES for node in classes(path) if (n := len(methods(node))) > MAX_METHODS}
    assert large == {}, f"compose classes of more than {MAX_METHODS} methods of objects"


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(list)
    for path in MODULES:
        for node in classes(path):
            places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_a_file_says_its_job_first() -> None:
    assert [str(path.relative_to(ROOT)) for path in MODULES if not ast.get_docstring(parsed(path))] == []


def test_the_fields_words_are_used() -> None:
    found = []
    for path in TEXTS:
        lines = enumerate(path.read_text().splitlines(), start=1)
        found += [f"{path.relative_to(ROOT)}:{number}: {line.strip()}" for number, line in lines if PRIVATE.search(line)]
    assert found == []
