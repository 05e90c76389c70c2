"""Who may import whom: the layers of the suite, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "genai"
EVERYONE = {"genai", "genai.images", "genai.errors", "genai.images", "genai.models.precision"}
ALLOWED = {
    "pixels": set(),
    "errors": set(),
    "pictures": set(),
    "precision.py": set(),
    "memory.py": set(),
    "data": {"genai.data"},
    "networks": {"genai.networks"},
    "metrics": {"genai.metrics", "genai.networks"},
    "models": {"genai.networks", "genai.models.base", "genai.models.ema", "genai.models.schedules"},
    "callbacks": {"genai.training.callbacks", "genai.metrics", "genai.models.base", "genai.models.ema", "genai.runs"},
    "latents": {"genai.latents", "genai.metrics", "genai.models.base", "genai.runs"},
    "runs.py": {"genai.runs.loading", "genai.models.base"},
    "loading.py": {"genai.runs", "genai.models.base"},
    "tracking.py": set(),
}


def imports(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "genai")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "genai":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = (PACKAGE.parent / (full.replace(".", "/") + ".py")).is_file()
                yield full if is_module else str(node.module)


def layer_files() -> list[tuple[str, Path]]:
    return [
        (layer, path)
        for layer in ALLOWED
        for path in ([PACKAGE / layer] if layer.endswith(".py") else sorted((PACKAGE / layer).rglob("*.py")))
    ]


@pytest.mark.parametrize(("layer", "path"), layer_files(), ids=lambda value: getattr(value, "name", value))
def test_a_layer_imports_only_what_lies_below_it(layer: str, path: Path) -> None:
    allowed = EVERYONE | ALLOWED[layer]
    family = path.relative_to(PACKAGE).parts[1] if layer == "models" else ""
    if layer == "models" and not family.endswith(".py"):
        allowed = allowed | {f"genai.models.{family}"}
    for module in imports(path):
        assert any(module == base or module.startswith(f"{base}.") for base in allowed - {"genai"}) or module == "genai", (
            f"{path.relative_to(PACKAGE.parent)} must not import {module}"
        )


def test_the_command_line_starts_without_torch() -> None:
    import subprocess
    import sys

    code = "import sys, genai.cli; genai.cli.main(['--help']); print([m for m in ('torch', 'lightning') if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"
