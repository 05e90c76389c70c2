"""genai push and hf://user/name, with a local folder as the hub."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import genai
from genai.cli import main
from genai.runs import REPOSITORY, find

huggingface_hub = pytest.importorskip("huggingface_hub")
ENTRY = "zoo/mnist-gan"


class FolderHub:
    """The part of the hub's client that is used, with a folder for each repository."""

    root: Path

    def __init__(self, endpoint: str | None = None) -> None:
        pass

    def create_repo(self, repository: str, private: bool, exist_ok: bool) -> None:
        (self.root / repository).mkdir(parents=True, exist_ok=exist_ok)
        (self.root / repository / "private").write_text(str(private))

    def upload_folder(self, repo_id: str, folder_path: str, commit_message: str, delete_patterns: list[str]) -> None:
        for name in delete_patterns:
            (self.root / repo_id / name).unlink(missing_ok=True)
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)

    @classmethod
    def snapshot_download(cls, repository: str, local_dir: Path, **options: Any) -> str:
        if not (cls.root / repository).is_dir():
            raise FileNotFoundError(repository)
        return str(shutil.copytree(cls.root / repository, local_dir, dirs_exist_ok=True))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(FolderHub, "root", tmp_path / "hub", raising=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", FolderHub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", FolderHub.snapshot_download)
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "hub"


def test_what_is_pushed_is_loaded_with_the_same_weights(hub: Path) -> None:
    assert main(["push", ENTRY, "someone/digits"]) == 0
    pushed, own = genai.load("hf://someone/digits"), genai.load(ENTRY)
    assert torch.equal(pushed.sample(range(2)), own.sample(range(2)))
    assert genai.sample("hf://someone/digits", num=2).shape == (2, 1, 28, 28)


def test_a_push_removes_what_belongs_to_earlier_weights(hub: Path) -> None:
    assert main(["push", ENTRY, "someone/digits"]) == 0
    for name in ("model.onnx", "notes.txt"):
        (hub / "someone/digits" / name).write_text("of other weights")
    assert main(["push", ENTRY, "someone/digits"]) == 0
    names = {path.name for path in (hub / "someone/digits").iterdir()}
    assert {"notes.txt", "weights.safetensors"} <= names
    assert "model.onnx" not in names


@pytest.mark.parametrize("option", [[], ["--private"]])
def test_a_repository_is_private_only_on_request(hub: Path, option: list[str]) -> None:
    assert main(["push", ENTRY, "someone/digits", *option]) == 0
    assert (hub / "someone/digits/private").read_text() == str(bool(option))


def test_the_card_has_the_hubs_header_and_scores_with_floors(hub: Path) -> None:
    assert main(["push", ENTRY, "someone/digits", "--licence", "apache-2.0"]) == 0
    _, header, body = (hub / "someone/digits/README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(header)
    assert card["license"] == "apache-2.0"
    assert card["library_name"] == "genai"
    metrics = {metric["type"]: metric["value"] for metric in card["model-index"][0]["results"][0]["metrics"]}
    expected = json.loads((REPOSITORY / ENTRY / "metrics.json").read_text())["test"]["scores"]["fid"]
    assert metrics["fid"] == pytest.approx(expected, abs=1e-3)
    assert f"| FID ↓ | {expected:.4g}" in body
    assert "0.06" in body.partition("| FID ↓ |")[2].partition("\n")[0]
    for heading in ("## Use", "## Scores", "## Data and licence", "## Intended use"):
        assert heading in body
    assert "hf://someone/digits" in body
    assert "pip install" not in body  # another program has this name on PyPI


def test_a_model_of_text_has_a_card_of_text(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", "zoo/shakespeare-gpt", "someone/plays"]) == 0
    assert capsys.readouterr().out.endswith("genai sample hf://someone/plays --num 3 --tokens 300\n")
    _, header, body = (hub / "someone/plays/README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(header)
    assert card["pipeline_tag"] == "text-generation"
    metrics = {metric["type"]: metric["value"] for metric in card["model-index"][0]["results"][0]["metrics"]}
    assert metrics["bits_per_byte"] == pytest.approx(2.281, abs=1e-3)
    assert "| bits per byte ↓ | 2.281 | 2.007 |" in body
    assert "image" not in body
    model: Any = {"genai": genai}
    exec(body.partition("```python\n")[2].partition("```")[0].replace("300", "5"), model)  # the card's own lines
    assert model["tokens"].shape == (3, 5)


@pytest.mark.parametrize("name", ["digits", "a/b/c", "../x", "someone/.."])
def test_a_name_is_user_and_repository(name: str, hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", ENTRY, name]) == 2
    assert main(["sample", f"hf://{name}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_repository_without_a_model_gets_one_line(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (hub / "someone/empty").mkdir(parents=True)
    for name in ("someone/empty", "someone/absent"):
        assert main(["sample", f"hf://{name}"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "it has no config.yaml" in lines[0]


@pytest.mark.offline
def test_without_a_network_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the port of `discard`, where nothing listens
    monkeypatch.setenv("HF_TOKEN", "hf_0")
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))
    assert main(["push", ENTRY, "someone/digits"]) == 2
    assert main(["sample", "hf://someone/digits"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("check the network" in line for line in lines)


def test_each_revision_has_its_own_folder(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["push", ENTRY, "someone/digits"]) == 0
    names = ["hf://someone/digits", "hf://someone/digits@v1", "hf://someone/digits@refs/pr/2"]
    assert len({find(name).path for name in names}) == 3
    assert find(names[1]).name == "someone/digits@v1"
