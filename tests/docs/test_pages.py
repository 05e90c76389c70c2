"""Links, pictures, commands, the glossary and the file map of the documents."""

import importlib
import re
from pathlib import Path

import pytest

from genai.cli import main
from tests.docs.markdown import LINK, PAGES, ROOT, anchors, commands, prose, rows

EXAMPLE_VERBS = {"mean"}  # that extending.md adds
EXAMPLE_CONFIGS = {"configs/digits/gaussian.yaml", "configs/bars/gaussian.yaml"}
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def title(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_link_and_picture_is_there() -> None:
    for page, link in [(path, link) for path in PAGES for link in LINK.findall(prose(path.read_text()))]:
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{title(page)}: {link}"
        if anchor:
            assert anchor in anchors(path.read_text()), f"{title(page)}: {link}"


def test_every_verb_config_and_zoo_entry_of_a_command_is_there() -> None:
    verbs = {path.stem.replace("_", "-") for path in (ROOT / "genai/cli/verbs").glob("*.py")} | EXAMPLE_VERBS
    for arguments in (arguments for page in PAGES for arguments in commands(page.read_text())):
        if not re.fullmatch(r"[a-z]+", arguments[0] if arguments else ""):
            continue  # `genai --help`, `genai VERB`
        assert arguments[0] in verbs, arguments
        for word in arguments[1:]:
            if (word.startswith("configs/") and word not in EXAMPLE_CONFIGS) or re.fullmatch(r"zoo/[a-z0-9-]+", word):
                assert (ROOT / word).exists(), arguments


def test_every_preset_a_page_names_is_there() -> None:
    for page in PAGES:
        for name in set(re.findall(r"configs/[\w-]+/[\w-]+\.yaml", page.read_text())) - EXAMPLE_CONFIGS:
            assert (ROOT / name).is_file(), f"{title(page)}: {name}"


def test_every_page_that_code_or_a_preset_names_is_there() -> None:
    for folder in ("genai", "configs", "benchmarks", "zoo"):
        for path in (path for kind in ("*.py", "*.yaml", "*.md") for path in (ROOT / folder).rglob(kind)):
            for name in re.findall(r"docs/[\w/-]+\.md", path.read_text()):
                assert (ROOT / name).is_file(), f"{title(path)}: {name}"


def test_the_tests_of_commands_can_fail() -> None:
    assert commands("    a && genai fit -c x \\\n      --y 1   # z\n") == [["fit", "-c", "x", "--y", "1"]]
    assert commands("Use `genai sample zoo/none`.") == [["sample", "zoo/none"]]
    assert anchors("# R3GAN: a, b\n## c (d)\n") == {"r3gan-a-b", "c-d"}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_glossary_is_short_and_sorted() -> None:
    terms = [term for term, _ in rows(CONTRIBUTING, "Glossary")]
    assert len(terms) <= 30
    assert terms == sorted(terms, key=str.lower)


def test_the_file_map_has_every_folder() -> None:
    mapped = {path.strip("`") for path, _ in rows(CONTRIBUTING, "File map")}
    for path in mapped:
        assert (ROOT / path).exists(), path
    package = [path for path in (ROOT / "genai").rglob("*") if path.is_dir() and path.name != "__pycache__"]
    tracked = {"benchmarks", "configs", "docs", "genai", "tests", "zoo", ".ci"}
    for folder in [*package, *(ROOT / name for name in tracked)]:
        assert f"{folder.relative_to(ROOT)}/" in mapped, folder


def test_our_own_verbs_know_the_options_of_every_command() -> None:
    for verb, *arguments in (words for page in PAGES for words in commands(page.read_text()) if words):
        if verb not in EXAMPLE_VERBS and (ROOT / f"genai/cli/verbs/{verb}.py").is_file() and arguments:
            module = importlib.import_module(f"genai.cli.verbs.{verb}")
            if hasattr(module, "parser"):
                parser = module.parser()
                parse = parser.parse_known_args if verb == "sweep" else parser.parse_args  # a sweep has the options of fit too
                parse(arguments)  # raises UserError


@pytest.mark.slow
@pytest.mark.long
def test_every_fit_with_options_has_a_valid_config(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "configs").symlink_to(ROOT / "configs")
    found = {tuple(words[1:]) for page in PAGES for words in commands(page.read_text()) if words and words[0] == "fit"}
    for arguments in sorted(found):
        if len(arguments) <= 2 or "-c" not in arguments:
            continue  # a preset as it is: see tests/test_configs.py; or --resume
        if any(word.startswith("my_") for word in arguments):
            continue  # code of one's own
        try:
            status: object = main(["fit", *arguments, "--print_config"])
        except SystemExit as stop:
            status = stop.code
        assert not status, f"{arguments}: {capsys.readouterr().err}"
