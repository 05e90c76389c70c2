"""What a person sees of a fit and a test whose output goes to a file: few lines, none twice, no library's chatter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import TQDMProgressBar

from genai.training.callbacks.progress import ProgressLines, progress_bar

ROOT = Path(__file__).parents[2]


def lines_of(folder: Path, *arguments: str) -> list[str]:
    """What `genai *arguments` prints into a pipe, on both streams."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "genai", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.long
def test_a_fit_into_a_pipe_is_quiet(workspace: Path) -> None:
    config = str(ROOT / "configs/digits/gan.yaml")
    few = ["--evaluation.num_samples", "100", "--trainer.limit_train_batches", "4"]
    fit = lines_of(workspace, "fit", "-c", config, "--experiment", "demo", "--trainer.max_epochs", "40", *few)
    test = lines_of(workspace, "test", "demo", "--evaluation.num_samples", "100")
    for output in (fit, test):
        assert len(set(output)) == len(output)
    assert len(fit) + len(test) <= 55
    text = "\n".join([*fit, *test])
    for chatter in ("weights_only", "FLOPs", "Seed set", "`Trainer.fit` stopped", "💡", "Restor", "wandb: WARNING"):
        assert chatter not in text
    assert text.count("epoch 40/40: 10,240 images") == 1
    assert "parameters: generator 725,312, discriminator 722,945" in text
    assert sum("genai fit --resume runs/demo/" in line for line in fit[-3:]) == 1


def test_a_terminal_gets_a_bar_and_a_file_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert isinstance(progress_bar(), TQDMProgressBar)
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert isinstance(progress_bar(), ProgressLines)
