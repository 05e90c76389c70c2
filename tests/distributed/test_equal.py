"""Two processes and one, with the same batch of all devices together, train and score alike."""

import csv
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import genai
from genai import runs
from genai.cli import main
from genai.data.base import ImageArray, StridedSampler, even_batch_size
from genai.errors import UserError
from tests.distributed.worker import drop_one_image
from tests.families import FAMILIES, QUIET, TRUST, family

ROOT = Path(__file__).parent.parent.parent
STEPS = ["--trainer.max_epochs", "2", "--trainer.limit_train_batches", "10", "--trainer.num_sanity_val_steps", "0"]
NUM_STEPS = 20
CODES = "vqvae"  # its prior's first gradients are near 0, and Adam magnifies their rounding: its losses are compared alone
SCORES = ["--evaluation.num_samples", "150", "--evaluation.batch_size", "40"]  # 4 batches, the last one short


def fit(name: str, batch_size: int) -> list[str]:
    options = ["--model.init_args.tokenizer_kimg", "0.32"] if name == CODES else []  # the prior's stage is the second epoch
    options += ["--data.init_args.batch_size", str(batch_size), "--data.init_args.augment", "null"]
    return ["fit", *family(name), *STEPS, *options]


def transformer_fit(batch_size: int) -> list[str]:
    network = "{class_path: genai.networks.dit.DiT, init_args: {dim: 32, depth: 2, num_heads: 2, embedding_dim: 24}}"
    words = fit("diffusion", batch_size)
    at = words.index("--model.init_args.network.init_args.channels")
    return [*words[:at], *words[at + 4 :], "--model.init_args.network", network, "--trainer.max_epochs", "1"]


def validate(run: Path) -> list[str]:
    return ["validate", str(run), "--checkpoint", "last", *TRUST, *QUIET, *SCORES, "--data.init_args.batch_size", "29"]


def torchrun(folder: Path, jobs: dict[str, dict], processes: int = 2) -> list[dict]:
    """Run the jobs in processes that torchrun starts; what each rank has seen."""
    path = folder / "jobs.json"
    path.write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = os.environ | {"GENAI_RUNS": str(folder / "runs"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-m", "tests.distributed.worker", str(path)], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "output.txt").write_text(done.stdout + done.stderr)
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(processes)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process: each family trained and validated."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENAI_RUNS", str(folder / "runs"))
        for name in FAMILIES:
            assert main(fit(name, 32)) == 0
            shutil.copytree(run_of(folder, name).path, folder / "trained" / name)
            if name == "features":
                drop_one_image(patch)
            assert main(validate(run_of(folder, name).path)) == 0
        assert main([*transformer_fit(32), "--experiment", "transformer"]) == 0
    return folder


@pytest.fixture(scope="module")
def together(alone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    """Two: each family trained, and what the single process trained validated."""
    folder = tmp_path_factory.mktemp("together")
    shutil.copytree(alone / "trained", folder / "trained")
    jobs: dict[str, dict] = {name: {"arguments": fit(name, 16), "prepare": ["share"]} for name in FAMILIES}
    for name in FAMILIES:
        prepare = ["drop"] if name == "features" else []  # 349 images: 174 and 175 in batches of 29
        jobs[f"validate {name}"] = {"arguments": validate(folder / "trained" / name), "prepare": prepare}
    parts = [*fit("gan", 16), "--model.init_args.num_microbatches", "2", "--experiment", "parts"]
    jobs["parts"] = {"arguments": parts, "prepare": ["share"]}
    fsdp = ["-c", str(ROOT / "configs/trainer/fsdp.yaml"), "--trainer.accelerator", "cpu", "--trainer.precision", "32"]
    sharded = [*fit("diffusion", 16), *fsdp, "--experiment", "sharded"]
    jobs["sharded"] = {"arguments": [*sharded, "--trainer.max_epochs", "1"], "prepare": ["share", "processors"]}
    transformer = [*transformer_fit(16), *fsdp, "--experiment", "sharded-transformer"]
    jobs["sharded transformer"] = {"arguments": transformer, "prepare": ["share", "processors"]}
    again = ["fit", "--resume", "sharded", "--trainer.max_epochs", "2"]
    jobs["sharded again"] = {"arguments": again, "prepare": ["share", "processors"]}
    noisy = [*fit("gan", 16), "--data.init_args.augment", "{translate: 0.2}", "--experiment", "noisy"]
    jobs["noisy"] = {"arguments": [*noisy, "--trainer.max_epochs", "1"], "prepare": ["record"]}
    return folder, torchrun(folder, jobs)


def run_of(folder: Path, name: str) -> runs.Run:
    (path,) = (folder / "runs" / f"digits-{name}").iterdir()
    return runs.Run(path)


def losses(run: runs.Run) -> dict[str, list[float]]:
    """Columns of metrics.csv that hold losses, one value for each step."""
    with (run.path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.startswith("train/") and "loss" in name]
    return {name: [float(row[name]) for row in rows if row[name]] for name in names}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_losses_are_equal(name: str, alone: Path, together: tuple[Path, list[dict]]) -> None:
    one, two = losses(run_of(alone, name)), losses(run_of(together[0], name))
    assert one.keys() == two.keys()
    for key in one:
        assert len(one[key]) == len(two[key]) == NUM_STEPS
        assert one[key] == pytest.approx(two[key], rel=1e-3 if name == CODES else 2e-4), key


@pytest.mark.slow
@pytest.mark.long
def test_losses_in_parts_are_equal(alone: Path, together: tuple[Path, list[dict]]) -> None:
    (run,) = (together[0] / "runs/parts").iterdir()
    one, two = losses(run_of(alone, "gan")), losses(runs.Run(run))
    for key in one:
        assert one[key] == pytest.approx(two[key], rel=2e-4), key


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_weights_are_equal(name: str, alone: Path, together: tuple[Path, list[dict]]) -> None:
    one, two = (torch.load(run_of(f, name).checkpoint("last"), weights_only=True) for f in (alone, together[0]))
    assert one["images_seen"] == two["images_seen"] == NUM_STEPS * 32
    for key, value in one["state_dict"].items():
        if not (name == CODES and "prior." in key):
            torch.testing.assert_close(two["state_dict"][key], value, rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", ["gan", "diffusion"])
def test_scores_are_equal(name: str, alone: Path, together: tuple[Path, list[dict]]) -> None:
    one, two = run_of(alone, name).scores()["val"], runs.Run(together[0] / "trained" / name).scores()["val"]
    for part in ("scores", "floor"):
        assert one[part].keys() == two[part].keys()
        for key, value in one[part].items():
            assert two[part][key] == (value if value is None else pytest.approx(value, rel=1e-6)), key


@pytest.mark.slow
@pytest.mark.long
def test_a_sharded_network_learns_the_same_and_loads_whole(alone: Path, together: tuple[Path, list[dict]]) -> None:
    """Also over a resume after half of the steps, which the UNet has."""
    pairs = (("digits-diffusion", "sharded", 1e-3), ("transformer", "sharded-transformer", 1e-2))
    for one, two, tolerance in pairs:
        (whole,), (part,) = (alone / "runs" / one).iterdir(), (together[0] / "runs" / two).iterdir()
        assert losses(runs.Run(whole))["train/loss"] == pytest.approx(losses(runs.Run(part))["train/loss"], rel=2e-4)
        samples = [genai.load(path, "last").sample(range(4), torch.arange(4)) for path in (whole, part)]
        torch.testing.assert_close(*samples, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.long
def test_a_held_out_image_counts_once_however_many_processes_share_them(alone: Path, together: tuple[Path, list[dict]]) -> None:
    with (run_of(alone, "features").path / "metrics.csv").open(newline="") as file:
        one = list(csv.DictReader(file))[-1]
    with (together[0] / "trained/features/metrics.csv").open(newline="") as file:
        two = list(csv.DictReader(file))[-1]
    for name in ("val/loss", "val/accuracy"):
        assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-5)


@pytest.mark.parametrize("num_ranks", [2, 3, 8])
def test_ranks_have_equally_many_batches(num_ranks: int) -> None:
    for num_images in range(num_ranks, 60):
        images = ImageArray(np.zeros((num_images, 1, 2, 2), np.uint8), np.zeros(num_images, np.int64))
        for wanted in (1, 2, 3, 7):
            size = even_batch_size(num_images, num_ranks, wanted)
            shares = [list(StridedSampler(images, num_ranks, rank)) for rank in range(num_ranks)]
            assert sorted(index for share in shares for index in share) == list(range(num_images))
            assert len({math.ceil(len(share) / size) for share in shares}) == 1
            assert wanted <= size <= wanted + num_images


def test_more_processes_than_images_are_refused() -> None:
    with pytest.raises(UserError, match="3 images cannot be shared by 4 processes"):
        even_batch_size(3, 4, 64)


@pytest.mark.slow
@pytest.mark.long
def test_exactly_one_process_writes(together: tuple[Path, list[dict]]) -> None:
    folder = together[0]
    others = {"noisy", "parts", "sharded", "sharded-transformer"}
    assert {path.name for path in (folder / "runs").iterdir()} == {f"digits-{name}" for name in FAMILIES} | others
    for name in FAMILIES:
        run = run_of(folder, name)
        assert len(losses(run)) > 0
        assert not list(run.path.rglob("*.tmp")) + list(run.path.rglob("lock*"))
    assert (folder / "output.txt").read_text().count("2 devices x 16 images = 32 images per step") == len(FAMILIES) + 5


@pytest.mark.slow
@pytest.mark.long
def test_noise_and_augmentation_differ_between_ranks(together: tuple[Path, list[dict]]) -> None:
    zero, one = (rank["noisy"]["seen"] for rank in together[1])
    assert len(zero) == len(one) == NUM_STEPS
    assert not set(zero) & set(one)
