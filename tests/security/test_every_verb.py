"""Each verb runs, and opens no connection to the outside: an audit hook (tests/conftest.py) records and refuses connections.

The hook watches every other test too, so these calls of all verbs in a row are long."""

import os
from pathlib import Path
from typing import Any

import pytest

from genai.cli import main
from genai.cli.main import find_verbs
from genai.runs import find
from tests.conftest import attempts
from tests.families import CONFIGS, family
from tests.runs.test_hub import FolderHub

DIFFUSION = "zoo/digits-diffusion"
CONVNET = "genai.networks.convnet.ConvNet"
SMALL = ["--num", "2"]
SCORED = ["--evaluation.every_n_epochs", "1", "--evaluation.num_samples", "60", "--gallery.every_n_epochs", "0"]
QUICK = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.precision", "32", "--tracker", "none"]
VERBS = {  # the arguments of one quick call; {vae} and so on are runs of two batches
    "anomalies": ["{vae}", "test", "--num", "9", "--samples", "2", "--score", "bound"],
    "audit": [DIFFUSION, "--num", "20", "--steps", "1"],
    "average": ["{diffusion}", "--std", "0.07"],
    "classify": ["{vae}", "--num", "20", "--samples", "1"],
    "compare": ["{vae}", *SMALL],
    "curves": ["{vae}"],
    "denoise": ["{vae}", *SMALL],
    "detect": ["marked/", "--run", DIFFUSION, "--key", "secret"],
    "diffuse": [DIFFUSION, "--columns", "3"],
    "directions": ["{vae}", "--num", "60", "--unsupervised", "1", "--out", "vae.safetensors"],
    "edit": ["zoo/avatars-cr3gan", "--set", "hat=1", *SMALL],
    "editing": ["zoo/avatars-cr3gan", "--predictor", "avatars", "--attributes", "hat", *SMALL],
    "explain": ["{features}", "--num", "8", "--checkpoint", "last"],
    "export": ["{vae}", "entry", "--checkpoint", "last"],
    "export-features": ["{features}", "mine.safetensors", "--checkpoint", "last"],
    "filmstrip": ["{vae}"],
    "fit": ["-c", str(CONFIGS / "gan.yaml"), "--trainer.fast_dev_run", "true", "--trainer.accelerator", "cpu"],
    "inpaint": [DIFFUSION, "test/0", "--steps", "2"],
    "inspect": ["marked/00000.png"],
    "interpolate": ["{vae}", *SMALL, "--points", "3"],
    "latents": ["{vae}", "--side", "2"],
    "likelihood": ["{vae}", "--num", "9", "--samples", "1"],
    "memorisation": [DIFFUSION, "--num", "20", "--steps", "1", "--levels", "2"],
    "play": [DIFFUSION, "--port", "{port}"],
    "predict": ["{vae}", "--trainer.limit_predict_batches", "1"],
    "presets": [],
    "push": [DIFFUSION, "someone/digits"],
    "reconstruct": ["{vae}", *SMALL],
    "report": [DIFFUSION, "--num", "4"],
    "restoration": [DIFFUSION, "--num", "2", "--steps", "2"],
    "runs": [],
    "sample": [DIFFUSION, *SMALL, "--steps", "2"],
    "score": ["four.npz", "--against", "digits"],
    "sweep": ["-c", "digits/gan", "--study", "one", "--trials", "1", "--seeds", "0", *SCORED, *QUICK],
    "test": ["{features}"],
    "tokens": ["zoo/shakespeare-mingru", "--prompt", "To be"],
    "upscale": [DIFFUSION, "test/0", "--factor", "2", "--steps", "2"],
    "validate": ["{vae}", "--evaluation.num_samples", "50"],
    "vary": [DIFFUSION, "test/0", *SMALL, "--steps", "2"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with three runs of two batches, and a small file of samples."""
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1"]
    more = {
        "vae": ["-c", str(CONFIGS / "cvae.yaml"), "--model.init_args.latent_dim", "2", "--gallery.every_n_epochs", "1"],
        "diffusion": ["--model.init_args.power_stds", "[0.05,0.1]"],
        "features": [f"--model.init_args.network={CONVNET}", "--model.init_args.network.init_args.channels=[8,16]"],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("verbs"))
        for name, options in more.items():
            assert main(["fit", *family(name), *options, *short, "--experiment", name]) == 0
        assert main(["test", str(find("vae").path), "--checkpoint", "last", "--evaluation.num_samples", "50"]) == 0
        assert main(["sample", DIFFUSION, "--num", "2", "--watermark", "secret", "--out", "marked/"]) == 0
        assert main(["sample", DIFFUSION, "--num", "60", "--steps", "1", "--out", "four.npz"]) == 0
        yield {name: str(find(name).path) for name in more}


def test_every_verb_has_a_quick_call() -> None:
    assert set(find_verbs()) == set(VERBS)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("verb", find_verbs())
def test_a_verb_runs_and_reaches_for_no_other_machine(
    verb: str, place: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if verb == "push":
        huggingface_hub = pytest.importorskip("huggingface_hub")
        monkeypatch.setattr(FolderHub, "root", Path("hub"), raising=False)
        monkeypatch.setattr(huggingface_hub, "HfApi", FolderHub)
    if verb == "play":
        monkeypatch.setattr(pytest.importorskip("gradio").Blocks, "block_thread", lambda page: page.close())
    port = str(20_000 + os.getpid() % 10_000)
    assert main([verb, *(word.format(port=port, **place) for word in VERBS[verb])]) == 0
    assert attempts == []
