"""Two processes fit the text model that one process fits, and validate to the same number; with FSDP too."""

import csv
from pathlib import Path

import pytest
import torch

from genai import runs
from genai.cli import main
from tests.distributed.test_equal import ROOT, torchrun
from tests.families import QUIET

SHORT = ["--trainer.max_steps", "6", "--trainer.max_epochs", "1", "--trainer.limit_val_batches", "20"]
SHORT += ["--trainer.log_every_n_steps", "1", "--data.init_args.context_length", "32"]
FSDP = ["-c", str(ROOT / "configs/trainer/fsdp.yaml"), "--trainer.accelerator", "cpu", "--trainer.precision", "32"]
ADAMW = [
    "--model.init_args.matrix_optimizer",
    "null",
    "--experiment",
    "pydocs-sharded",
]  # FSDP splits the matrices
MODELS = {
    "gpt": ["--model.init_args.network.init_args", "{dim: 16, depth: 1, num_heads: 1, positions: rotary}"],
    "ngram": ["--model.init_args.order", "3", "--trainer.limit_train_batches", "6"],
}


def fit(name: str, batch_size: int) -> list[str]:
    config = str(ROOT / f"configs/pydocs/{name}.yaml")
    return ["fit", "-c", config, *MODELS[name], *QUIET, *SHORT, "--data.init_args.batch_size", str(batch_size)]


def rows(folder: Path, name: str) -> tuple[dict[str, torch.Tensor], list[dict[str, str]]]:
    (path,) = (folder / f"runs/pydocs-{name}").iterdir()
    with (path / "metrics.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    return torch.load(runs.Run(path).checkpoint("last"), weights_only=True)["state_dict"], found


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_equal_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_RUNS", str(tmp_path / "one/runs"))
    for name in MODELS:
        assert main(fit(name, 16)) == 0
    assert main([*fit("gpt", 16), *ADAMW]) == 0
    (tmp_path / "two").mkdir()
    jobs: dict[str, dict] = {name: {"arguments": fit(name, 8), "prepare": []} for name in MODELS}
    jobs["sharded"] = {"arguments": [*fit("gpt", 8), *FSDP, *ADAMW], "prepare": ["processors"]}
    for rank in torchrun(tmp_path / "two", jobs):
        assert all(result["status"] == 0 for result in rank.values())
    (counts, _), (shared, _) = (rows(tmp_path / folder, "ngram") for folder in ("one", "two"))
    for key, value in counts.items():
        assert torch.equal(shared[key], value), key
    for name in (*MODELS, "sharded"):  # Muon magnifies the rounding of first gradients near 0, so the losses are compared alone
        curves = [rows(tmp_path / folder, name)[1] for folder in ("one", "two")]
        assert [row["tokens_seen"] for row in curves[0]] == [row["tokens_seen"] for row in curves[1]]
        for column in ("train/loss", "val/loss", "val/bits_per_byte"):
            one, two = ([float(row[column]) for row in curve if row.get(column)] for curve in curves)
            assert one == pytest.approx(two, rel=1e-3)
            assert one or column == "train/loss" or name != "ngram"
