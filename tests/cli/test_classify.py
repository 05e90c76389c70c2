"""genai classify on runs of digits."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from genai.cli import main
from genai.cli.classification import Row, show
from genai.metrics.discriminative import Reliability
from genai.runs import REPOSITORY, find
from tests.cli.test_cli import QUICK

CVAE = str(REPOSITORY / "configs/digits/cvae.yaml")
GAN = str(REPOSITORY / "configs/digits/gan.yaml")
CLASSIFIER = str(REPOSITORY / "configs/digits/features.yaml")


def fit(config: str, *options: str) -> str:
    assert main(["fit", "-c", config, *QUICK, "--evaluation.every_n_epochs", "0", *options]) == 0
    return str(find(f"digits-{Path(config).stem}").path)


def test_runs_that_share_a_row_are_said_to(capsys: pytest.CaptureFixture[str]) -> None:
    row = Row("classifier", 100, 0.9, 0.1, math.nan, 1.0, "", Reliability(np.ones(1), np.ones(1)))
    show([row, row._replace(method="QDA")], 50, "images")
    assert "±" not in capsys.readouterr().out
    show([row, row._replace(accuracy=0.8)], 50, "images")
    assert "±: standard deviation over the runs" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
@pytest.mark.long
def test_a_vae_a_classifier_and_baselines_are_compared(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vae = fit(CVAE, "--trainer.max_epochs", "12", "--data.init_args.num_train", "600")
    classifier = fit(CLASSIFIER, "--trainer.max_epochs", "5")
    capsys.readouterr()
    arguments = ["classify", vae, classifier, "--checkpoint", "last", "--num", "100", "--samples", "4", "--out", "table.csv"]
    assert main(arguments) == 0
    rows = list(csv.DictReader(Path("table.csv").read_text().splitlines()))
    assert {(row["method"], row["num_train"]) for row in rows} == {
        ("VAE by Bayes' rule", "600"),
        ("classifier", "1097"),
        *((name, num) for name in ("naive Bayes", "QDA", "logistic regression") for num in ("600", "1097")),
    }
    assert all(float(row["accuracy"]) > 0.4 for row in rows), rows
    assert Path("table.png").is_file()
    assert main(arguments) == 2
    assert "--force" in capsys.readouterr().err


def test_a_model_without_a_likelihood_is_named(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit(GAN, "--trainer.max_epochs", "1")
    assert main(["classify", run]) == 2
    assert "cvae.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "message"), [(["--data.init_args.num_train", "0"], "num_train 0")])
def test_no_training_images(options: list[str], message: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "-c", CVAE, *QUICK, *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_text_is_classified_by_bayes_rule_and_baselines(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f'spam,"buy now {i}!"' if i % 2 else f'ham,"dear friend {i}"' for i in range(100)]
    Path("mails.csv").write_text("label,text\n" + "\n".join(rows) + "\n")
    data = ["--data.init_args.root", "mails.csv", "--data.init_args.tokens", "bytes", "--data.init_args.context_length", "16"]
    network = "--model.init_args.network.init_args"
    small = [f"{network}.dim", "16", f"{network}.depth", "1", "--trainer.max_steps", "20", "--trainer.val_check_interval", "10"]
    config = str(REPOSITORY / "configs/mails/gpt.yaml")
    assert main(["fit", "-c", config, "--tracker", "none", "--trainer.enable_progress_bar", "false", *data, *small]) == 0
    run = str(find("mails-gpt").path)
    assert main(["classify", run, "--num", "20", "--out", "table.csv"]) == 0
    table = list(csv.DictReader(Path("table.csv").read_text().splitlines()))
    assert {(row["method"], row["num_train"]) for row in table} == {
        (name, "80") for name in ("transformer by Bayes' rule", "naive Bayes", "n-grams by Bayes' rule", "logistic regression")
    }
    baselines = [float(row["accuracy"]) for row in table if not row["method"].startswith("transformer")]
    assert baselines == [1, 1, 1]
    assert Path("table.png").is_file()
    plain = str(REPOSITORY / "configs/pydocs/ngram.yaml")
    stream = ["--data", "Mails", "--data.init_args.root", "mails.csv", "--data.init_args.context_length", "16"]
    assert main(["fit", "-c", plain, "--tracker", "none", *stream, "--data.init_args.batch_size", "4"]) == 0
    assert main(["classify", str(find("pydocs-ngram").path)]) == 2
    assert "configs/mails/gpt.yaml" in capsys.readouterr().err
