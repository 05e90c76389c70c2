"""genai audit: a planted imbalance is found, a balanced model is not called biased; --shares and the options of the data."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from genai.cli import main
from genai.cli.options.shares import attributes_with_shares, class_shares, classes_with_shares, parse_shares
from genai.data.arrays import class_balanced, with_shares
from genai.data.avatars import Avatars
from genai.data.digits import Digits
from genai.errors import UserError

DIGITS = "zoo/digits-diffusion"
NAMES = tuple("0123456789")


def audited(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["audit", DIGITS, "--num", "200", "--steps", "4", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_planted_shares_are_found_and_balanced_ones_are_not(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    balanced = audited(capsys, "--out", "balanced.csv")
    assert "training images against equal shares: no difference found" in balanced
    assert "samples against training images:      no difference found" in balanced
    planted = audited(capsys, "--out", "planted.csv", "--shares", "4=0.9")
    assert "samples against training images:      different (p = 0.001)" in planted
    rows = {row["name"]: row for row in csv.DictReader(Path("planted.csv").read_text().splitlines())}
    assert float(rows["4"]["samples"]) == pytest.approx(0.9, abs=0.03)
    assert float(rows["4"]["p"]) < 0.01 < 0.05 < float(rows["4"]["low"])
    assert Path("planted.png").stat().st_size > 1000
    assert max(map(len, planted.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([DIGITS, "--features", "mnist", "--shares", "x=1"], "there is no class 'x'"),
        ([DIGITS, "--intersect", "a,b"], "`digits` knows exclusive classes"),
        ([DIGITS, "--features", "inception"], "does not know the labels of digits"),
        (["zoo/shakespeare-mingru"], "which cannot sample images"),
        (["zoo/mnist-gan", "--shares", "4=0.5", "--features", "digits"], "is unconditional: leave --shares out"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], words: str, workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "inception" in arguments:
        monkeypatch.setattr("genai.cli.verbs.audit.load_extractor", lambda name: Unnamed())
    assert main(["audit", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert list(workspace.iterdir()) == []


class Unnamed:
    """A feature network without classes."""

    name, task, class_names, num_classes = "inception", "class", (), 1008

    def to(self, device: str) -> "Unnamed":
        return self


# -- shares of conditions ------------------------------------------------------------------------------------------------


def test_shares_of_classes_are_met_by_every_prefix() -> None:
    shares = class_shares("4=0.5,7=0.1", NAMES)
    assert shares[0] == pytest.approx(0.05)
    classes = classes_with_shares(shares, 200)
    assert torch.bincount(classes, minlength=10).tolist() == [10] * 4 + [100, 10, 10, 20, 10, 10]
    assert torch.equal(classes_with_shares(shares, 37), classes[:37])
    assert classes_with_shares(class_shares("equal", NAMES), 20).tolist() == [*range(10), *range(10)]


def test_shares_of_attributes_choose_training_vectors() -> None:
    examples = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    vectors = attributes_with_shares({0: 0.5, 2: 0.25}, 400, examples, ("a", "b", "c"))
    assert vectors[:, 0].mean() == pytest.approx(0.5, abs=0.01)
    assert vectors[:, 2].mean() == pytest.approx(0.25, abs=0.01)
    assert (vectors[:, 0] * vectors[:, 2]).mean() == pytest.approx(0.125, abs=0.02)  # independent
    with pytest.raises(UserError, match="no known training image has no a"):
        attributes_with_shares({0: 0.5}, 4, examples[4:], ("a", "b", "c"))


@pytest.mark.parametrize(
    ("text", "words"),
    [("4=0.7,5=0.7", "sums to 1.4"), ("4=x", "NAME=SHARE"), ("4=0.1,4=0.2", "each name once"), ("q=1", "'q'")],
)
def test_wrong_shares_are_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        class_shares(text, NAMES)
    assert parse_shares("4=0.5", NAMES, "class") == {4: 0.5}


def test_sample_takes_shares(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", DIGITS, "--num", "10", "--steps", "1", "--shares", "4=0.8,1=0.2", "--out", "a.npz"]) == 0
    assert np.bincount(np.load("a.npz")["labels"]).tolist() == [0, 2, 0, 0, 8]
    assert main(["sample", DIGITS, "--shares", "equal", "--label", "4"]) == 2
    assert "leave --label" in capsys.readouterr().err


# -- options of the data -------------------------------------------------------------------------------------------------


def test_training_images_with_given_class_shares() -> None:
    shares = [0.0] * 10
    shares[4], shares[1] = 0.9, 0.1
    data = Digits(class_shares=shares)
    labels = data.split("train").labels
    counts = np.bincount(labels, minlength=10)
    assert counts[4] == 111  # all of them
    assert counts.sum() - counts[4] == counts[1] == 12
    assert len(data.split("test")) == 350
    assert data.fingerprint("train") != Digits().fingerprint("train")
    assert with_shares(np.array([0, 0, 1, 1, 1]), (1, 1), 100).tolist() == [0, 1, 2, 3]
    with pytest.raises(UserError, match="10 shares"):
        Digits(class_shares=[1, 1])


def test_balance_shows_each_class_equally_often() -> None:
    shares = [9.0, *[1.0] * 9]
    data = Digits(batch_size=20, class_shares=shares, balance=True)
    data.setup("fit")
    loader = data.train_dataloader()
    first, second = ([batch.labels for batch in loader] for _ in range(2))
    num = len(data.split("train"))
    counts = torch.bincount(torch.cat(first), minlength=10)
    assert counts.max() - counts.min() <= 1 + num % 20  # the last short batch is left out
    assert not torch.equal(torch.cat(first), torch.cat(second))
    rows = class_balanced(data.split("train").labels, (0, 1))
    assert len(rows) == num
    assert np.array_equal(rows, class_balanced(data.split("train").labels, (0, 1)))
    faces = Avatars(size=16, num_images=8)
    faces.balance = True
    with pytest.raises(UserError, match="balance needs one class"):
        faces.prepare_data()


@pytest.mark.slow
def test_images_that_have_changed_since_the_training_are_named(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = Digits().split("train")
    np.savez("mine.npz", images=train.images[:400, 0], labels=train.labels[:400])
    fit = ["fit", "-c", "digits/cgan", "--data", "Npz", "--data.init_args.root", "mine.npz", "--tracker", "csv"]
    short = [
        "--trainer.precision",
        "32",
        "--trainer.max_epochs",
        "1",
        "--evaluation.features",
        "digits",
        "--evaluation.num_samples",
        "40",
    ]
    assert main([*fit, *short, "--experiment", "one"]) == 0
    audit = ["audit", "one", "--features", "digits", "--num", "100"]
    report = ["report", "one", "--num", "4"]
    assert main(audit) == main([*report, "--out", "before.html"]) == 0
    assert "differ from" not in capsys.readouterr().err
    np.savez("mine.npz", images=train.images[400:800, 0], labels=train.labels[400:800])
    assert main([*audit, "--force"]) == 0
    assert "differ from those of the training" in capsys.readouterr().err
    assert main([*report, "--out", "after.html"]) == 0
    assert "differ from those of the training" in capsys.readouterr().err
