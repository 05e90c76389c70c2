"""A fit of text whose optimiser has an option that is a word resumes exactly."""

from pathlib import Path

import pytest
import torch

from genai.cli import main
from genai.runs import find

SMALL = ["--model.init_args.network.init_args.dim", "16", "--model.init_args.network.init_args.depth", "1"]
FIT = ["fit", "-c", "pydocs/gpt", *SMALL, "--tracker", "csv", "--evaluation.num_samples", "2"]
FIT += ["--trainer.val_check_interval", "2"]


def weights(name: str) -> dict[str, torch.Tensor]:
    return torch.load(find(name).path / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_muon_resumes_exactly(workspace: Path) -> None:
    assert main([*FIT, "--trainer.max_steps", "4", "--experiment", "whole"]) == 0
    assert main([*FIT, "--trainer.max_steps", "2", "--experiment", "parts"]) == 0
    assert main(["fit", "--resume", "parts", "--trainer.max_steps", "4"]) == 0
    for name, expected in weights("whole").items():
        assert torch.equal(weights("parts")[name], expected), name
