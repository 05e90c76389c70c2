"""What the benchmarks import exists: none of them runs in a test but that of the GPU."""

import ast
import importlib
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


def defined(path: Path) -> set[str]:
    """Names of the functions, classes and constants of a file."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_imported_names_exist(path: Path) -> None:
    siblings = {one.stem: one for one in BENCHMARKS}
    missing = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [alias.name for alias in node.names]
            if node.module in siblings:
                missing += [f"{node.module}.{name}" for name in names if name not in defined(siblings[node.module])]
            elif node.module.split(".")[0] == "genai":
                module = importlib.import_module(node.module)
                absent = [f"{node.module}.{name}" for name in names if not hasattr(module, name)]
                missing += [name for name in absent if find_spec(name) is None]
    assert missing == []
