"""The examples of docs/extending.md: each file is written into a copy of the package, each command is run there."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from genai.models import capabilities
from tests.docs.markdown import ROOT, Block, blocks, commands, rows

PAGE = (ROOT / "docs/extending.md").read_text()
SECTIONS = {text.split("\n", 1)[0]: text for text in PAGE.split("\n## ")[1:]}
WITH_EXAMPLES = [title for title in SECTIONS if title != "More verbs for a model"]
FILE = re.compile(r"# (\S+\.(?:py|yaml))(?: \((append)\))?\n")
SMALL = ["--tracker", "none", "--trainer.enable_progress_bar", "false", "--evaluation.num_samples", "100"]
SHORT = {"fit": ["--trainer.max_epochs", "2", "--gallery.every_n_epochs", "0", *SMALL], "test": SMALL}
RUN = """
import json, runpy, sys, traceback
from genai.cli import main
results = {}
for line in json.load(open("steps.json")):
    try:
        sys.argv = ["genai", *line["words"]]
        status = runpy.run_path(line["words"][0]) and 0 if line["words"][0].endswith(".py") else main(line["words"])
    except BaseException:
        traceback.print_exc()
        status = 1
    results.setdefault(line["section"], []).append([" ".join(line["words"]), status])
json.dump(results, open("results.json", "w"))
"""


def write(root: Path, block: Block) -> str:
    """Write, or append, a block to the file that its first line names; returns the file's name."""
    match = FILE.match(block.text)
    assert match, f"the first line of this block names no file:\n{block.text}"
    path = root / match[1]
    assert path.exists() == bool(match[2]), path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(f"\n\n{block.text}" if match[2] else block.text)
    return match[1]


def steps_of(title: str, scripts: list[str]) -> list[dict[str, object]]:
    """The commands and scripts of a section, in order; those that train or test are short."""
    words = [
        [*arguments, *SHORT.get(arguments[0], [])]
        for arguments in commands(SECTIONS[title])
        if arguments[1:] and "RUN" not in arguments
    ]
    return [{"section": title, "words": step} for step in [*words, *([script] for script in scripts)]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, int]]]:
    """The exit status of each command, by section; all examples are in place before the first one runs."""
    root = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "genai", root / "genai", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", root / "configs")
    (root / "zoo").symlink_to(ROOT / "zoo")
    scripts = {}
    for title in WITH_EXAMPLES:
        written = [write(root, block) for block in blocks(SECTIONS[title])]
        scripts[title] = [name for name in written if name.startswith("examples/")]
    steps = [step for title in WITH_EXAMPLES for step in steps_of(title, scripts[title])]
    (root / "steps.json").write_text(json.dumps(steps))
    (root / "run.py").write_text(RUN)
    environment = os.environ | {"PYTHONPATH": str(root), "GENAI_RUNS": str(root / "runs")}
    done = subprocess.run([sys.executable, "run.py"], cwd=root, env=environment, capture_output=True, text=True, check=False)
    (root / "output").write_text(done.stdout + done.stderr)
    print(done.stdout[-6000:], done.stderr[-6000:])
    assert (root / "results.json").is_file(), done.stderr[-3000:]
    content: dict[str, list[tuple[str, int]]] = json.loads((root / "results.json").read_text())
    return content | {"output": [(done.stdout, 0)]}


@pytest.mark.slow
@pytest.mark.parametrize("title", WITH_EXAMPLES)
def test_the_examples_of_a_section_run(title: str, results: dict[str, list[tuple[str, int]]]) -> None:
    assert results[title], "the section has no command"
    for command, status in results[title]:
        assert status == 0, shlex.quote(command)


@pytest.mark.slow
def test_the_new_metric_is_in_the_table(results: dict[str, list[tuple[str, int]]]) -> None:
    assert "Coverage" in results["output"][0][0]


def test_the_table_of_capabilities_has_every_protocol() -> None:
    protocols = {name: value for name, value in vars(capabilities).items() if getattr(value, "_is_protocol", False)}
    own = {name: value for name, value in protocols.items() if value.__module__ == capabilities.__name__}
    table = {cells[1].strip("`"): cells[0] for cells in rows(PAGE, "More verbs for a model")}
    assert set(own) == set(table) - {"ImageModel"}
    for name, protocol in own.items():
        for member in {*vars(protocol), *protocol.__annotations__}:
            assert member.startswith("_") or f"`{member}`" in table[name], (name, member)


def test_the_table_of_capabilities_names_verbs_only() -> None:
    verbs = {path.stem.replace("_", "-") for path in (ROOT / "genai/cli/verbs").glob("*.py")}
    for cells in rows(PAGE, "More verbs for a model"):
        for span in re.findall(r"`([^`]+)`", cells[2]):
            assert span.startswith("--") or span.split()[0] in verbs, span
