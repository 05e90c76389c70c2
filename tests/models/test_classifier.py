import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import safetensors.torch
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from genai.cli import main
from genai.cli.verbs import export_features
from genai.data.digits import Digits
from genai.data.mnist import MNIST
from genai.errors import UserError
from genai.images import to_float
from genai.metrics.features import extract, load_extractor
from genai.metrics.features.trained import WEIGHTS
from genai.models.classifier.classifier import Classifier, classification_loss
from genai.models.classifier.metrics import ClassifierMetrics
from genai.networks.convnet import ConvNet
from genai.runs import Run
from tests.families import TRUST, family

SHAPE = (1, 8, 8)


def tiny(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    return ConvNet(image_shape, num_classes, channels=(8, 16), stem_stride=1, dropout=0.0)


class Bars(L.LightningDataModule):
    """Images with a bright top, bottom or neither: three classes, or the two attributes of the halves."""

    def __init__(self, attributes: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        halves = torch.randint(2, (256, 2), generator=generator)
        if not attributes:
            halves[:, 1] *= 1 - halves[:, 0]
        images = torch.rand(256, *SHAPE, generator=generator) - 1
        images[:, :, :4] += halves[:, 0].view(-1, 1, 1, 1)
        images[:, :, 4:] += halves[:, 1].view(-1, 1, 1, 1)
        labels = halves.float() if attributes else halves @ torch.tensor([1, 2])
        self.pairs = TensorDataset(images, labels)
        self.class_names = ("top", "bottom") if attributes else ("none", "top", "bottom")

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.pairs, batch_size=32)

    val_dataloader = test_dataloader = train_dataloader


def fitted(attributes: bool, **options: float) -> tuple[Classifier, dict[str, float]]:
    """A classifier trained on `Bars`, and its scores there."""
    torch.manual_seed(0)
    data = Bars(attributes)
    model = Classifier(SHAPE, len(data.class_names), tiny, attributes=attributes, ema_halflife_kimg=0.1, **options)
    model.optimizer = lambda parameters: torch.optim.AdamW(parameters, lr=1e-2)
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_epochs=8, accelerator="cpu", num_sanity_val_steps=0, **silent)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    return model, {key: float(value) for key, value in trainer.callback_metrics.items()}


def test_separable_classes_are_classified_without_errors() -> None:
    model, scores = fitted(attributes=False, label_smoothing=0.1)
    assert scores["test/accuracy"] == 1.0
    assert scores["test/accuracy/top"] == 1.0
    assert model.images_seen == 8 * 256


def test_separable_attributes_are_classified_without_errors() -> None:
    _, scores = fitted(attributes=True)
    assert scores["test/auc"] == scores["test/auc/top"] == scores["test/auc/bottom"] == 1.0


def test_prediction_comes_from_the_averaged_network_and_takes_bytes_or_floats() -> None:
    model = Classifier(SHAPE, 3, tiny).eval()
    pixels = torch.randint(256, (5, *SHAPE), dtype=torch.uint8)
    before = model.predict(pixels)
    for parameter in model.network.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(model.predict(to_float(pixels)), before)
    torch.testing.assert_close(before.sum(dim=1), torch.ones(5))


def test_probabilities_of_attributes_are_independent() -> None:
    model = Classifier(SHAPE, 3, tiny, attributes=True).eval()
    model.averaged.network.logits.bias.fill_(4.0)
    assert (model.predict(torch.zeros(2, *SHAPE)).sum(dim=1) > 2).all()


def test_a_blind_classifier_loses_log_k_for_classes_and_log_2_for_attributes() -> None:
    logits = torch.zeros(4, 10)
    classes = classification_loss(logits, torch.arange(4), attributes=False)
    attributes = classification_loss(logits, torch.ones(4, 10), attributes=True)
    torch.testing.assert_close(classes, torch.full((4,), math.log(10)))
    torch.testing.assert_close(attributes, torch.full((4,), math.log(2)))


@pytest.mark.parametrize("attributes", [False, True])
def test_smoothed_loss_is_least_at_the_smoothed_target(attributes: bool) -> None:
    """With smoothing s the best probabilities are 1 - s + s/K for classes and 1 - s/2 for attributes."""
    smoothing, logits = 0.2, torch.zeros(1, 5, requires_grad=True)
    labels = torch.tensor([[1.0, 0, 0, 0, 0]]) if attributes else torch.tensor([0])
    for _ in range(2000):
        (gradient,) = torch.autograd.grad(classification_loss(logits, labels, attributes, smoothing).sum(), logits)
        logits = (logits - gradient).detach().requires_grad_()
    best = logits.sigmoid()[0, 0] if attributes else logits.softmax(dim=1)[0, 0]
    assert best.item() == pytest.approx(0.9 if attributes else 0.84, abs=1e-3)


@pytest.mark.parametrize("attributes", [False, True])
def test_labels_of_the_other_kind_are_refused(attributes: bool) -> None:
    labels = torch.tensor([0, 1]) if attributes else torch.eye(2)
    with pytest.raises(ValueError, match=f"set attributes={not attributes}"):
        classification_loss(torch.zeros(2, 2), labels, attributes)


def test_metrics_of_classes_in_closed_form() -> None:
    metrics = ClassifierMetrics(3, attributes=False)
    labels = torch.tensor([0, 0, 1, 2])
    logits = nn.functional.one_hot(torch.tensor([0, 1, 1, 1]), 3).float()
    for rows in (slice(0, 1), slice(1, 4)):
        metrics.update(logits[rows], labels[rows], torch.tensor([4.0, 0, 0, 0])[rows])
    expected = {"loss": 1.0, "accuracy": 0.5, "accuracy/a": 0.5, "accuracy/b": 1.0, "accuracy/c": 0.0}
    assert metrics.compute("abc") == pytest.approx(expected)
    metrics.reset()
    metrics.update(logits[:1], labels[:1], torch.zeros(1))
    assert metrics.compute("abc")["accuracy"] == 1.0


def test_auc_agrees_with_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (200, 3), generator=generator)
    logits = torch.randn(200, 3, generator=generator) + labels * torch.tensor([0.0, 1.0, 2.0])
    metrics = ClassifierMetrics(3, attributes=True)
    metrics.update(logits, labels.float(), torch.zeros(200))
    each = roc_auc_score(labels.numpy(), logits.numpy(), average=None)
    got = metrics.compute(("x", "y", "z"))
    assert [got["auc/x"], got["auc/y"], got["auc/z"]] == pytest.approx(list(each), abs=1e-6)
    assert got["auc"] == pytest.approx(float(np.mean(each)), abs=1e-6)


def test_labels_that_a_split_cannot_measure_are_left_out() -> None:
    metrics = ClassifierMetrics(3, attributes=True)
    metrics.update(torch.tensor([[2.0, 1, -1], [-2, 1, -1]]), torch.tensor([[1.0, 1, 0], [0, 1, 0]]), torch.zeros(2))
    assert metrics.compute("xyz") == {"loss": 0, "auc": 1, "auc/x": 1}
    metrics = ClassifierMetrics(3, attributes=False)
    metrics.update(torch.eye(3)[:2], torch.tensor([0, 1]), torch.zeros(2))
    assert metrics.compute("xyz") == {"loss": 0, "accuracy": 1, "accuracy/x": 1, "accuracy/y": 1}


def test_metrics_are_not_part_of_a_checkpoint() -> None:
    model, _ = fitted(attributes=False)
    assert {key.split(".")[0] for key in model.state_dict()} == {"network", "averaged"}


def test_a_model_built_in_python_trains_and_predicts() -> None:
    torch.manual_seed(0)
    model = Classifier(image_shape=SHAPE, num_classes=10)
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_epochs=2, accelerator="cpu", **silent)
    data = Digits()
    trainer.fit(model, datamodule=data)
    assert float(trainer.callback_metrics["val/accuracy"]) > 0.5
    assert {f"val/accuracy/{digit}" for digit in range(10)} <= trainer.callback_metrics.keys()
    probabilities = model.predict(torch.from_numpy(data.split("test").images[:5].copy()))
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(5))


# -- the shipped feature networks -------------------------------------------------------------------------------------


def shipped() -> Iterator[str]:
    return (path.stem for path in sorted(WEIGHTS.glob("*.safetensors")))


@pytest.mark.parametrize("name", shipped())
def test_a_card_lies_beside_the_weights_and_names_their_hash(name: str) -> None:
    network = load_extractor(name)
    card = (WEIGHTS / f"{name}.md").read_text()
    assert network.weights_sha256 in card
    assert f"configs/{name}/features.yaml" in card
    assert (WEIGHTS / f"{name}.safetensors").stat().st_size < export_features.MAX_BYTES


def test_the_digits_network_reaches_its_stated_accuracy() -> None:
    assert accuracy_on("digits", Digits(), 350) >= 0.98


def test_the_mnist_network_reaches_its_stated_accuracy() -> None:
    if not (Path(os.environ.get("GENAI_DATA", "data")) / "MNIST/raw").is_dir():
        pytest.skip("MNIST is not in $GENAI_DATA")
    assert accuracy_on("mnist", MNIST(), 3000) >= 0.99


def accuracy_on(name: str, data: Digits | MNIST, num_images: int) -> float:
    """Accuracy of a shipped network on the first test images."""
    batch = data.split("test").batch(range(num_images))
    logits = extract(load_extractor(name), batch.images.split(500)).logits
    assert logits is not None
    return float((logits.argmax(dim=1) == batch.labels).float().mean())


def test_features_vary_within_a_class() -> None:
    """A network whose features collapse to its classes cannot tell good samples from class means."""
    data = Digits().split("test")
    pool = extract(load_extractor("digits"), [torch.from_numpy(data.images)]).pool.numpy()
    within = sum(np.cov(pool[data.labels == digit].T) for digit in range(10)) / 10
    spectrum = np.linalg.eigvalsh(within)
    assert spectrum.sum() / np.trace(np.cov(pool.T)) > 0.05
    assert spectrum.sum() ** 2 / (spectrum**2).sum() > 5  # effective dimensions


# -- genai export-features ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rounded", "dtype"), [(0.8, "float32"), (0.9 - 1 / 350, "float16")])
def test_weights_are_rounded_where_that_costs_one_image_at_most(
    monkeypatch: pytest.MonkeyPatch, rounded: float, dtype: str
) -> None:
    model = Classifier(SHAPE, 10, tiny).eval()
    before = {key: value.clone() for key, value in model.export_state().items()}
    accuracies = iter([0.9, rounded])
    monkeypatch.setattr(export_features, "measure", lambda *_: {"accuracy": next(accuracies)})
    assert export_features.choose_dtype(model, Digits().split("val"), ()) == dtype
    expected = before if dtype == "float32" else export_features.half(before)
    assert all(torch.equal(value, expected[key].to(value.dtype)) for key, value in model.export_state().items())


def test_the_same_weights_make_the_same_file() -> None:
    state = ConvNet(SHAPE, 10).state_dict()
    about = {str(i): "x" * i for i in range(20)}
    content = export_features.serialised(state, about)
    assert all(export_features.serialised(state, dict(sorted(about.items(), key=hash))) == content for _ in range(5))
    loaded = safetensors.torch.load(content)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_a_name_of_ones_own_lies_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path))
    assert export_features.target("cats") == tmp_path / "features/cats.safetensors"
    assert export_features.target("a/cats.safetensors") == Path("a/cats.safetensors")


@pytest.mark.parametrize("name", ["inception", "dinov2", "../cats", "a.b", "-x", ""])
def test_a_name_that_cannot_be_used_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"use letters, digits, - and _, none of .*inception"):
        export_features.target(name)


def test_the_header_rebuilds_the_network() -> None:
    with safetensors.safe_open(WEIGHTS / "digits.safetensors", framework="pt") as file:
        about = file.metadata()
    spec = json.loads(about["network"])
    assert spec["class_path"] == "genai.networks.convnet.ConvNet"
    assert spec["init_args"]["image_shape"] == [1, 8, 8]
    assert {"data", "split", "accuracy", "command", "seed", "images_seen"} <= about.keys()


def test_a_network_without_features_is_refused(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *family("features"), "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]) == 0
    capsys.readouterr()
    assert main(["export-features", "digits-features", "mine.safetensors", "--checkpoint", "last", *TRUST]) == 2
    assert "tests.families.Logits, which is not a feature network" in capsys.readouterr().err
    assert not list(workspace.glob("mine*"))
    Path("mine.md").write_text("notes")
    assert main(["export-features", "digits-features", "mine.safetensors", "--checkpoint", "last", *TRUST]) == 2
    assert "mine.md exists: choose another name, or replace it with --force" in capsys.readouterr().err


def test_the_card_has_the_training_time_that_the_run_recorded(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"cost": {"seconds": 120.0}}')
    assert export_features.minutes(Run(tmp_path)) == 2.0
