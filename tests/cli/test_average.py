"""genai average: from the snapshots of a run to a checkpoint that samples."""

from pathlib import Path

import pytest

from genai.cli import main
from genai.runs import find
from tests.cli.test_cli import QUICK

TINY = ["--model.init_args.network.init_args.channels", "[16]", "--model.init_args.power_stds", "[0.05,0.1]"]


@pytest.mark.slow
def test_an_average_is_made_scored_and_never_guessed(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from genai.runs import REPOSITORY

    config = str(REPOSITORY / "configs/digits/diffusion.yaml")
    assert main(["fit", "-c", config, *QUICK, *TINY, "--trainer.max_epochs", "3", "--evaluation.every_n_epochs", "0"]) == 0
    run = find("digits-diffusion").path
    assert len(list((run / "averages").glob("*.safetensors"))) == 6
    assert main(["average", str(run), "--std", "0.07"]) == 0
    assert main(["sample", str(run), "--checkpoint", "average-0.07", "--num", "4", "--out", "a.png"]) == 0
    assert main(["sample", str(run), "--checkpoint", "last", "--num", "4", "--out", "b.png"]) == 0
    assert Path("a.png").read_bytes() != Path("b.png").read_bytes()
    capsys.readouterr()
    for wrong, message in (
        (["--std", "0.9"], "no power-function profile"),
        (["--std", "0.1", "--kimg", "99"], "outside the range of the snapshots"),
    ):
        assert main(["average", str(run), *wrong]) == 2
        assert message in capsys.readouterr().err
    assert main(["average", "zoo/mnist-gan", "--std", "0.1"]) == 2
    assert "power_stds" in capsys.readouterr().err
