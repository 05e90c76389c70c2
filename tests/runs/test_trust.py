"""A run from elsewhere cannot make a verb import, let alone call, what its user does not trust."""

import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import genai
from genai import runs
from genai.cli import main
from genai.errors import UserError
from genai.runs.signature import is_own, key, key_path
from genai.runs.trust import Policy, reason_of
from tests.families import family

HERE = Path("config.yaml")


@pytest.mark.parametrize(
    ("config", "advice"),
    [
        ({"class_path": "subprocess.Popen"}, "a run from elsewhere may not use it"),
        ({"init_args": {"generator_optimizer": "subprocess.Popen"}}, "may not use it"),
        ({"init_args": {"generator": {"class_path": "genai.runs.directory.os.system"}}}, "may not use it"),
        ({"init_args": {"networks": [{"class_path": "torch.os.system"}]}}, "may not use it"),
        ({"init_args": {"objective": "torch.serialization.pickle.loads"}}, "may not use it"),
        ({"init_args": {"objective": "tests.families.Logits"}}, "if you trust it, add --trust tests"),
    ],
    ids=str,
)
def test_what_is_not_ours_is_refused(config: Any, advice: str) -> None:
    with pytest.raises(UserError, match=rf"config\.yaml names .*, which is not among the classes .*: .*{advice}"):
        Policy(HERE).check(config, "model")


def test_what_is_ours_trusted_or_no_import_passes() -> None:
    Policy(HERE).check({"class_path": "genai.models.gan.gan.GAN", "init_args": {"optimizer": "torch.optim.Adam"}}, "model")
    Policy(HERE, ("tests",)).check({"class_path": "tests.families.Logits", "objective": "NonSaturating"}, "model")
    Policy(HERE).check({"root": "photos.zip", "precision": "16-mixed", "weights": "inception.pth", "ratio": "0.5"}, "data")
    Policy(HERE, unrestricted=True).check({"class_path": "subprocess.Popen"}, "model")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network lies outside of genai."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENAI_RUNS", str(folder / "runs"))
        options = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"]
        assert main(["fit", *family("features"), *options]) == 0
        return runs.find("digits-features").path


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be another user, for whom the run comes from elsewhere."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "of-a-stranger"))


def test_a_module_that_is_missing_is_named() -> None:
    error = ValueError(f"Errors:\n  - Type {'Tensor, ' * 60}expects a class: No module named 'mine'. Got value: mine.dark")
    assert reason_of(error) == "there is no module mine: install it, or add its folder to PYTHONPATH"


@pytest.mark.parametrize(
    "command", [["fit", "--resume"], ["test"], ["validate"], ["predict"], ["sample"], ["export", "zoo/x"]], ids=" ".join
)
def test_every_verb_refuses_an_untrusted_run(
    command: list[str], trained: Path, stranger: None, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [command[0], str(trained), *command[1:]] if command[0] == "export" else [*command, str(trained)]
    assert main(arguments) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "names tests.families.Logits, which is not among the classes" in line
    assert "if you trust it, add --trust tests" in line


def test_trust_is_given_package_by_package(trained: Path, stranger: None, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = ["--tracker", "none", "--trainer.enable_progress_bar", "false"]
    assert main(["test", str(trained), "--trust", "numpy", "--trust=tests", "--checkpoint", "last", *quiet]) == 0
    assert main(["test", str(trained), "--trust", "numpy", *quiet]) == 2
    assert genai.load(trained, "last", trust=["tests"]).num_classes == 10


def test_a_run_of_ones_own_needs_no_trust(trained: Path, workspace: Path) -> None:
    quiet = ["--tracker", "none", "--trainer.enable_progress_bar", "false"]
    assert main(["test", str(trained), "--checkpoint", "last", *quiet]) == 0
    assert genai.load(trained, "last").num_classes == 10
    assert is_own(trained)


@pytest.mark.parametrize("change", ["config", "signature", "key"])
def test_a_run_that_was_changed_is_not_ones_own(change: str, trained: Path, workspace: Path) -> None:
    copy = workspace / "runs/e/copy"
    shutil.copytree(trained, copy)
    assert is_own(copy)
    if change == "config":
        config = (copy / "config.yaml").read_text()
        (copy / "config.yaml").write_text(config.replace("tests.families.Logits", "tests.families.family"))
    elif change == "signature":
        runs.merge_json(copy / "run.json", {"signature": "0" * 64})
    else:
        key_path().unlink()
    assert not is_own(copy)
    with pytest.raises(UserError, match="--trust tests"):
        genai.load(copy, "last")


def test_the_key_is_for_this_user_alone(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(workspace / "config"))
    assert key() is None
    first = key(create=True)
    assert first is not None
    assert key(create=True) == key() == first
    assert key_path().stat().st_mode & 0o077 == 0
    (workspace / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(workspace / "file"))  # no folder can be made there
    assert key(create=True) is None


def test_a_run_of_another_format_is_refused_with_its_version(
    trained: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = workspace / "runs/e/copy"
    shutil.copytree(trained, copy)
    record = json.loads((copy / "run.json").read_text())
    for name in ("format", "seed_scheme"):
        assert record.pop(name)
    (copy / "run.json").write_text(json.dumps(record | {"versions": {"genai": "0.0.1"}}))
    for command in (["fit", "--resume", str(copy)], ["test", str(copy)], ["sample", str(copy)]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"run format 1 (written by genai 0.0.1), and genai {genai.__version__} reads format 2" in error


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("verb", [["fit", "--resume"], ["test"], ["sample"]], ids=" ".join)
@pytest.mark.parametrize("container", ["pickle", "zip", "hidden"])
def test_a_crafted_checkpoint_is_refused(
    verb: list[str], container: str, trained: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, owned = workspace / "runs/e/copy", workspace / "owned"
    shutil.copytree(trained, copy)
    for old in (copy / "checkpoints").iterdir():
        old.unlink()
    path = copy / "checkpoints/last.ckpt"
    if container == "pickle":
        path.write_bytes(pickle.dumps(Evil(owned)))
    elif container == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": Evil(owned)}, protocol=2))
            archive.writestr("archive/version", "3\n")
    else:
        content = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
        torch.save(content | {"callbacks": {"x": Evil(owned)}}, path)
    assert main([*verb, str(copy), "--trust", "tests"]) == 2
    assert not owned.exists()
    assert str(path) in capsys.readouterr().err


def test_run_json_of_another_shape_is_a_users_mistake(trained: Path, workspace: Path) -> None:
    copy = workspace / "runs/e/copy"
    shutil.copytree(trained, copy)
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(record | {"image_shape": [3, 8, 8]}))
    with pytest.raises(UserError, match="checkpoint of another model"):
        genai.load(copy, "last", trust=["tests"])
