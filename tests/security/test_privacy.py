"""What an export says about its author: no secrets, no paths, no copies of training images."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open

import genai
from genai.cli import main
from genai.models.seeds import image_seeds
from genai.runs import REPOSITORY, Run, find
from genai.runs.export import export_run
from genai.runs.redaction import Redaction
from genai.training.record import command_line
from tests.families import family

SECRETS = {
    "GitHub": "ghp_" + "a1B2" * 9,
    "Hugging Face": "hf_" + "aB3d" * 8,
    "AWS": "AKIA" + "ABCD1234" * 2,
    "hexadecimal": "0123456789abcdef" * 2 + "01234567",
    "random": "q7Xz" * 10,
    "web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("text", ["{}", "a {} b", "x={}", "'{}'", "--x={}"])
def test_what_looks_like_a_key_is_removed(text: str, secret: str) -> None:
    redaction = Redaction()
    assert secret not in redaction.text(text.format(secret))
    assert redaction.counts["secret"] == 1


@pytest.mark.parametrize("name", ["api_key", "apikey", "token", "auth.token", "password", "my_secret", "WANDB_API_KEY", "key"])
def test_the_value_of_a_secret_option_is_removed(name: str) -> None:
    assert Redaction().value({"a": [{name: "x"}]}) == {"a": [{name: "REMOVED"}]}
    assert Redaction().words([f"--{name}", "x", f"--{name}=x", "-o", "y"]) == [
        f"--{name}",
        "REMOVED",
        f"--{name}=REMOVED",
        "-o",
        "y",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/alice/faces", "faces"),
        ("/home/alice/my faces.zip", "my faces.zip"),
        ("~/faces", "faces"),
        ("../../alice/faces", "faces"),
        ("C:\\Users\\alice\\faces", "faces"),
        ("read /home/alice/a and /home/alice/b", "read a and b"),
        ("file:///home/alice/faces", "faces"),
        ("https://alice:pw@example.org/x", "https://example.org/x"),
        ("/", "REMOVED"),
    ],
)
def test_paths_are_shortened(text: str, expected: str) -> None:
    assert Redaction().text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "configs/mnist/gan.yaml",
        "genai.networks.resnet.ResidualDiscriminator",
        "1/2",
        "and/or",
        "{epoch}/{step}",
        "antialiased bilinear to 28x28 (other sizes only)",
        "2026-11-26T12:53:43+0000",
        "2.15.0+cu132",
        "a very_long_name_of_an_experiment_with_many_words_in_it",
    ],
)
def test_plain_text_stays(text: str) -> None:
    redaction = Redaction()
    assert (redaction.text(text), redaction.summary()) == (text, "")


def test_the_zoo_has_no_secrets_and_no_paths() -> None:
    for folder in (REPOSITORY / "zoo").iterdir():
        entry, redaction = Run(folder), Redaction()
        for content in (entry.config(), entry.record(), entry.scores()):
            redaction.value(content)
        assert redaction.summary() == "", folder
        assert not [name for name in safe_open(entry.weights, "pt").keys() if "centroids" in name]  # noqa: SIM118


def test_a_command_line_is_recorded_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "correct horse")
    words = ["genai", "fit", "-c", "/home/a/x.yaml", "--api_key", "abc", "--note", "my correct horse"]
    assert command_line(words) == "genai fit -c /home/a/x.yaml --api_key REMOVED --note 'my REMOVED'"


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run with clusters that was tested, with secrets and paths in every file."""
    folder = tmp_path_factory.mktemp("alice")
    options = ["--evaluation.num_samples", "50", "--trainer.limit_train_batches", "2", "--trainer.max_epochs", "1"]
    clusters = ["--model.init_args.cluster_conditioning.num_clusters", "4"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENAI_RUNS", str(folder / "runs"))
        patch.setenv("SERVICE_TOKEN", "correct-horse")
        patch.chdir(folder)
        fit = ["fit", *family("gan"), *options, *clusters, "--gallery.every_n_epochs", "1", "--gallery.num", "4"]
        words = [*fit, "--data.init_args.root", str(folder / "data")]
        assert main(words) == 0
        run = find("digits-gan")
        assert main(["test", str(run.path), *options[:2], "--trainer.accelerator", "cpu"]) == 0
        planted = [
            f"--a={folder}/x",
            "--api_key",
            "abcdefgh",
            "--url",
            "http://al:pw@example.org",
            SECRETS["GitHub"],
            "correct-horse",
        ]
        record = run.record() | {"command": " ".join(["genai", *planted]), "resumed_with": [" ".join(["genai", *planted])]}
        (run.path / "run.json").write_text(json.dumps(record))
        config = run.config()
        config["trainer"] |= {"default_root_dir": str(folder), "logger": [{"init_args": {"api_key": "abcdefgh"}}]}
        config["experiment"] = SECRETS["hexadecimal"]
        (run.path / "config.yaml").write_text(yaml.safe_dump(config))
        scores = run.scores()
        scores["test"]["protocol"]["features"] = f"{folder}/features.safetensors"
        (run.path / "metrics.json").write_text(json.dumps(scores))
        yield run, folder


@pytest.mark.slow
def test_an_export_holds_no_secret_no_path_and_no_centroids(
    tested: Any, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = tested
    monkeypatch.setenv("SERVICE_TOKEN", "correct-horse")
    with monkeypatch.context() as patch:
        patch.setattr("genai.runs.loading.read_config", lambda run, trust=(): own_config(run))
        model = genai.load(run, "last")
    written = export_run(run, workspace / "zoo/mine", model, "float32", lambda *_: {})
    assert "k-means centroids, " in written.removed
    assert "secrets" in written.removed
    assert "paths" in written.removed
    everything = b"".join(path.read_bytes() for path in written.path.iterdir())
    texts = [str(folder), folder.name, str(Path.home()), "abcdefgh", "al:pw", *SECRETS.values(), "correct-horse", "signature"]
    assert [text for text in texts if text.encode() in everything] == []
    names = set(safe_open(written.path / "weights.safetensors", "pt").keys())
    assert not [name for name in names if "centroid" in name or "variance" in name]
    assert yaml.safe_load((written.path / "config.yaml").read_text())["data"]["init_args"]["root"] is None
    seeds = image_seeds(0, 4)
    exported = genai.load(written.path)
    assert torch.equal(model.sample(seeds), exported.sample(seeds))
    row = model.clusters.centroids[0, 0].numpy().tobytes()
    assert row not in everything


def own_config(run: Run) -> Any:
    """The config of a run, with everything allowed."""
    from genai.runs.trust import Policy

    config = run.config()
    return config, Policy(run.path / "config.yaml", unrestricted=True)


def test_pictures_do_not_say_where_they_were_made(tested: Any) -> None:
    run, folder = tested
    [picture] = run.path.glob("samples/*.png")
    with Image.open(picture) as image:
        about = dict(image.text)  # type: ignore[attr-defined]
    assert about["Run"] == run.name
    assert str(folder).encode() not in picture.read_bytes()
