"""Who may import whom: dependencies point downwards only, read from the source of every module."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "genai"
EVERYONE = {"genai"} | {f"genai.{name}" for name in ("errors", "escaping", "files", "images", "memory", "shipped", "terminal")}
BELOW = {  # room -> rooms that it may import besides itself
    "cli": {"report", "control", "training", "runs", "models", "metrics", "data", "networks"},
    "report": {"control", "runs", "models", "metrics", "data", "networks"},
    "control": {"runs", "models", "metrics", "data", "networks"},
    "training": {"runs", "models", "metrics", "data", "networks"},
    "runs": {"models", "metrics", "data", "networks"},
    "metrics": {"networks"},
    "models": {"networks"},
    "data": set(),
    "networks": set(),
    "errors.py": set(),
    "escaping.py": set(),
    "files.py": set(),
    "images.py": set(),
    "memory.py": set(),
    "terminal.py": set(),
    "shipped.py": set(),
    "__init__.py": {"cli", "report", "control", "training", "runs", "models", "metrics", "data", "networks"},
    "__main__.py": {"cli"},
}
FAMILIES = {path.name for path in (PACKAGE / "models").iterdir() if path.is_dir() and path.name != "__pycache__"}
MODULES = sorted(PACKAGE.rglob("*.py"))


@cache
def imports(path: Path) -> list[str]:
    """Modules of ours that a file imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] == "genai"]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "genai":
            for alias in node.names:
                full = PACKAGE.parent / f"{node.module}.{alias.name}".replace(".", "/")
                is_module = full.with_suffix(".py").is_file() or full.is_dir()
                found.append(f"{node.module}.{alias.name}" if is_module else str(node.module))
    return found


def forbidden(path: Path, module: str) -> bool:
    """Whether the file at `path` must not import `module`."""
    room, *inner = path.relative_to(PACKAGE).parts
    other, *rest = (*module.split(".")[1:], "")
    if module in EVERYONE or other == room:
        family = inner[0] if room == "models" and len(inner) > 1 else None
        return bool(family and other == "models" and rest[0] in FAMILIES - {family})
    return other not in BELOW[room]


def test_a_module_imports_only_what_lies_below_it() -> None:
    found = [
        f"{path.relative_to(PACKAGE.parent)} must not import {module}"
        for path in MODULES
        for module in imports(path)
        if forbidden(path, module)
    ]
    assert found == []


def test_the_rules_can_fail() -> None:
    assert forbidden(PACKAGE / "models/gan/gan.py", "genai.metrics.fid")
    assert forbidden(PACKAGE / "models/gan/gan.py", "genai.models.vae.vae")
    assert forbidden(PACKAGE / "networks/unet.py", "genai.models.base")
    assert not forbidden(PACKAGE / "models/gan/gan.py", "genai.models.base")
    assert set(BELOW) >= {path.relative_to(PACKAGE).parts[0] for path in MODULES}


def test_no_module_but_its_entry_imports_the_command_line() -> None:
    users = {
        p for p in MODULES if p.relative_to(PACKAGE).parts[0] != "cli" and any(m.startswith("genai.cli") for m in imports(p))
    }
    assert users == {PACKAGE / "__main__.py"}


def test_the_command_line_starts_without_torch() -> None:
    code = "import sys, genai.cli; genai.cli.main(['--help']); print([m for m in ('torch', 'lightning') if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"
