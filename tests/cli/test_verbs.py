"""Verbs are found by their files; their help, their capabilities and their one-line errors."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from genai.cli import main
from genai.cli.main import GROUPS, find_verbs, help_text
from genai.cli.options.run import RequiredCapability

ROOT = Path(__file__).parents[2]
VERBS = find_verbs()
TRAINER_VERBS = ("fit", "validate", "test", "predict")
OWN_VERBS = sorted(VERBS.keys() - set(TRAINER_VERBS))


def help_of(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a verb prints with `arguments` on a terminal of 80 columns; argparse ends the process after its help."""
    monkeypatch.setenv("COLUMNS", "80")
    status: object = 0
    try:
        status = main([verb, *arguments])
    except SystemExit as end:
        status = end.code
    assert status == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_a_verb_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").touch()
    (tmp_path / "dream.py").write_text('"""genai dream: dream of images\n\nGroup: sample and edit\n"""\nraise RuntimeError\n')
    (tmp_path / "bare.py").write_text("x = 1\n")
    verbs = find_verbs(tmp_path)
    assert verbs["dream"] == ("dream", "dream of images", "sample and edit")
    assert verbs["bare"] == ("bare", "", "other verbs")
    lines = help_text(verbs).splitlines()
    assert lines.index("sample and edit:") < lines.index(f"  {'dream':<16} dream of images") < lines.index("other verbs:")


def test_every_verb_has_one_line_of_help_and_a_group() -> None:
    assert len(VERBS) > 20
    for verb in VERBS.values():
        first = Path(ROOT, verb.module.replace(".", "/") + ".py").read_text().splitlines()[0]
        assert first == f'"""genai {verb.name}: {verb.help}'
        assert verb.help
        assert verb.group in GROUPS
    assert max(map(len, help_text(VERBS).splitlines())) <= 80


@pytest.mark.parametrize("argument", ["--help", "--version", "tset"])
def test_the_top_level_imports_no_verb_and_no_large_library(argument: str) -> None:
    """So it answers in less than 0.1 s; the imports are measured, which does not depend on the load of the machine."""
    code = f"import sys, genai.cli; genai.cli.main(['{argument}']); print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    modules = set(output.splitlines()[-1].split())
    assert not modules & {"torch", "lightning", "numpy", "PIL", "rich", "yaml", "jsonargparse"}
    assert not [name for name in modules if name.startswith(("genai.cli.verbs.", "genai.training", "genai.models"))]


@pytest.mark.parametrize("verb", OWN_VERBS)
def test_help_of_a_verb(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(verb, monkeypatch, capsys, "--help")
    assert text.startswith(f"usage: genai {verb} ")
    assert (
        verb in ("curves", "inspect", "presets", "score", "sweep") or "--trust PACKAGE" in text
    )  # these build no model of a run
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    options = [line for line in lines if re.match(r"  -", line)]
    assert len(set(options)) == len(options)
    if verb not in ("play", "presets", "runs"):  # these need no argument
        assert help_of(verb, monkeypatch, capsys) == text


@pytest.mark.parametrize("verb", TRAINER_VERBS)
def test_help_of_a_trainer_verb(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(verb, monkeypatch, capsys)
    assert text.startswith(f"usage: genai {verb} ")
    assert "--trust PACKAGE" in text
    assert max(map(len, text.splitlines())) <= 80
    assert help_of(verb, monkeypatch, capsys, "--help") == text


def members(protocol: type) -> set[str]:
    """The methods and attributes of a protocol; of the class of all image models, `sample`."""
    protocols = [base for base in protocol.__mro__ if getattr(base, "_is_protocol", False)]
    names = {name for base in protocols for name in (*vars(base), *vars(base).get("__annotations__", ()))}
    return {name for name in names if not name.startswith("_")} or {"sample"}


def capabilities() -> list[RequiredCapability]:
    """Every capability that a verb needs."""
    modules = [importlib.import_module(VERBS[verb].module) for verb in OWN_VERBS]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, RequiredCapability)}
    return sorted(found, key=lambda capability: capability.phrase)


@pytest.mark.parametrize("capability", capabilities(), ids=lambda capability: capability.phrase)
def test_the_presets_named_have_the_ability(capability: RequiredCapability) -> None:
    for preset in capability.presets:
        path = yaml.safe_load((ROOT / preset).read_text())["model"]["class_path"]
        module, _, name = path.rpartition(".")
        model = getattr(importlib.import_module(module), name)
        has = {*dir(model), *model.__init__.__annotations__}
        protocols = capability.protocol if isinstance(capability.protocol, tuple) else (capability.protocol,)
        assert any(has >= members(protocol) for protocol in protocols), preset


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["smaple"], "did you mean `sample`?"),
        (["sample", "zoo/nothing"], "there is no run `zoo/nothing`"),
        (["sample", "zoo/mnist-gan", "--seed", "x"], "argument --seed: x is out of range: use an integer from 0 to 2147483647"),
        (["sample", "zoo/mnist-gan", "--nmu", "3"], "unrecognized arguments: --nmu 3; `genai sample --help`"),
        (["reconstruct", "zoo/mnist-gan"], "is a GAN, which cannot reconstruct images: name a run of a preset that can"),
        (["vary", "zoo/mnist-vae", "test/0"], "such as configs/digits/diffusion.yaml"),
        (["runs", "nowhere"], "there are no runs in nowhere"),
        (["compare", "zoo/mnist-gan", "zoo/digits-diffusion"], "compare runs of one dataset"),
        (["export-features", "zoo/mnist-gan", "digits"], "is a GAN, which cannot classify images"),
        (["filmstrip", "zoo/mnist-gan", "--epochs", "0"], "is not a list of integers such as 1,60,200"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], words: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("genai: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert not list(workspace.iterdir())


def test_only_parsing_sees_a_namespace() -> None:
    """Functions take values: only the parser's module, a logger whose base class has it, and the policy, which checks what
    jsonargparse parsed, name a Namespace."""
    users = {str(path.relative_to(ROOT)) for path in (ROOT / "genai").rglob("*.py") if "Namespace" in path.read_text()}
    assert users - {"genai/training/loggers.py", "genai/runs/trust.py"} == {"genai/cli/options/arguments.py"}
