"""Splits, loaders, order and the way from uint8 to float."""

import pickle

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits

from genai.data import Avatars, CelebA, ImageFolder, Olivetti, UTKFace
from genai.data.augment import Augment
from genai.data.base import Batch, ImageArray, ImageDataModule
from genai.data.digits import Digits
from genai.data.mnist import MNIST
from genai.data.order import EpochSampler, Position, TrainingOrder
from genai.errors import UserError


def array_of(num: int) -> ImageArray:
    return ImageArray(np.arange(num, dtype=np.uint8)[:, None, None, None].repeat(4, 2), np.arange(num))


def order(num: int, *, ranks: int = 1, rank: int = 0, seed: int = 0, epoch: int = 0, done: int = 0) -> list[int]:
    return list(EpochSampler(array_of(num), ranks, rank, seed, lambda: (epoch, done)))


def test_a_batch_keeps_the_order_of_its_indices() -> None:
    data = array_of(9)
    batch = data.batch([5, 1, 5])
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (3, 1, 4, 1)
    assert batch.labels.tolist() == batch.images[:, 0, 0, 0].tolist() == [5, 1, 5]
    assert data[3].images.shape == (1, 4, 1)
    assert data[3].labels == 3


def test_order_is_a_function_of_seed_and_epoch() -> None:
    assert order(50) == order(50)
    assert sorted(order(50)) == list(range(50))
    assert order(50) != order(50, seed=1)
    assert order(50) != order(50, epoch=1)
    assert order(50, epoch=3, done=20) == order(50, epoch=3)[20:]


def test_ranks_share_an_epoch_without_overlap() -> None:
    shares = [order(51, ranks=2, rank=rank, epoch=1) for rank in range(2)]
    assert [len(share) for share in shares] == [25, 25]
    assert len(set(shares[0]) | set(shares[1])) == 50


@pytest.mark.parametrize(("batch_size", "batches"), [(128, 8), (1097, 1), (5000, 1)])
def test_training_drops_its_short_batch_but_never_all(batch_size: int, batches: int) -> None:
    loader = Digits(batch_size=batch_size).train_dataloader()
    sizes = [len(batch.labels) for batch in loader]
    assert len(loader) == len(sizes) == batches
    assert set(sizes) == {min(batch_size, 1097)}


@pytest.mark.parametrize("name", ["val", "test", "predict"])
def test_other_loaders_are_in_order_and_complete(name: str) -> None:
    data = Digits(batch_size=100)
    split = data.split("val" if name == "val" else "test")
    batches = list(getattr(data, f"{name}_dataloader")())
    assert isinstance(batches[0], Batch)
    assert torch.equal(torch.cat([batch.images for batch in batches]), torch.from_numpy(np.array(split.images)))
    assert np.array_equal(torch.cat([batch.labels for batch in batches]), split.labels)


def test_digits_are_scikit_learns_and_stratified() -> None:
    data = Digits()
    splits = [data.split(name) for name in ("train", "val", "test")]
    assert [len(split) for split in splits] == [1097, 350, 350]
    assert all(np.ptp(np.bincount(split.labels)) <= 8 for split in splits)
    ours = sorted(image.tobytes() for split in splits for image in split.images)
    theirs = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    assert ours == sorted(image.tobytes() for image in theirs)


def test_a_larger_size_keeps_the_split_and_the_brightness() -> None:
    small, large = Digits().split("val"), Digits(size=32).split("val")
    assert large.images.shape == (350, 1, 32, 32)
    assert np.array_equal(small.labels, large.labels)
    assert np.corrcoef(small.images.mean((1, 2, 3)), large.images.mean((1, 2, 3)))[0, 1] > 0.98


def test_fingerprints_tell_content_apart() -> None:
    assert Digits().fingerprint("val") == Digits(batch_size=3, augment=Augment(flip=True)).fingerprint("val")
    assert len({Digits(size=size).fingerprint(split) for size in (8, 16) for split in ("train", "val")}) == 4


class Module(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.batches: dict[str, list[Batch]] = {"train": [], "val": []}

    def configure_optimizers(self) -> None:
        return None

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.batches["train"].append(batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.batches["val"].append(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Batch:
        return batch


def trainer(max_epochs: int = 1) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "enable_checkpointing": False}
    return Trainer(max_epochs=max_epochs, accelerator="cpu", **quiet)


def fitted(data: ImageDataModule) -> Module:
    module = Module()
    trainer().fit(module, data)
    return module


def test_only_training_is_augmented() -> None:
    plain, moved = fitted(Digits()), fitted(Digits(augment=Augment(translate=0.2)))
    for ours, theirs in zip(plain.batches["train"], moved.batches["train"], strict=True):
        assert torch.equal(ours.labels, theirs.labels)
        assert not torch.equal(ours.images, theirs.images)
    for ours, theirs in zip(plain.batches["val"], moved.batches["val"], strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert ours.images.dtype == torch.float32
        assert ours.images.min() == -1
        assert ours.images.max() == 1


def test_augmentation_differs_by_seed_position_and_rank() -> None:
    def numbers(seed: int, position: Position, rank: int) -> tuple[float, ...]:
        order = TrainingOrder()
        order.start(None, seed, 128)
        return tuple(torch.rand(2, generator=order.generator(position, rank)).tolist())

    keys = [(seed, Position(epoch, batch), rank) for seed in (0, 1) for epoch in (0, 1) for batch in (0, 1) for rank in (0, 1)]
    assert len({numbers(*key) for key in keys}) == len(keys)


def test_predict_goes_through_the_test_split() -> None:
    data = Digits(batch_size=100)
    batches = trainer().predict(Module(), data)
    assert sum(len(batch.labels) for batch in batches) == 350


def test_a_split_can_be_sent_to_a_loader_process() -> None:
    copy = pickle.loads(pickle.dumps(Digits().split("val")))
    assert torch.equal(copy.batch([3, 4]).images, Digits().split("val").batch([3, 4]).images)


def test_shapes_and_classes_are_known_before_any_file_is_opened(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GENAI_DATA", str(tmp_path))
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path))
    expected = {
        Digits(): ((1, 8, 8), 10),
        MNIST("stacked"): ((3, 28, 28), 1000),
        Avatars(size=32): ((3, 32, 32), 16),
        UTKFace(labels="age_group"): ((3, 64, 64), 5),
        CelebA(size=48, labels="attributes"): ((3, 48, 48), 40),
        Olivetti(channels=1, labels="person"): ((1, 64, 64), 40),
        ImageFolder("photos", size=16): ((3, 16, 16), 0),
    }
    for data, (shape, num_classes) in expected.items():
        assert (data.image_shape, data.num_classes, len(data.class_names)) == (shape, num_classes, num_classes)
        assert (data.label_kind == "none") == (num_classes == 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch_size": 0}, "batch_size 0"), ({"num_workers": -1}, "num_workers -1"), ({"seed": -1}, "seed -1")],
)
def test_options_out_of_range_are_refused_in_one_line(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Digits(**options)
    assert "\n" not in str(caught.value)


def test_the_sizes_of_the_splits_are_described() -> None:
    assert Digits().describe() == "digits 1x8x8: 1,097 train, 350 val, 350 test images"
    assert Digits(num_train=40).describe().startswith("digits 1x8x8: 40 train, 350 val")


# -- without the command line --------------------------------------------------------------------------------------------


def test_it_works_without_a_trainer() -> None:
    data = Digits(batch_size=64)
    data.setup("fit")
    loader = data.train_dataloader()
    first, second = ([batch.labels.tolist() for batch in loader] for _ in range(2))
    assert len(first) == len(loader) == 17
    assert first != second  # each pass is an epoch with an order of its own
    assert next(iter(data.val_dataloader())).images.dtype == torch.uint8


def test_a_loop_without_a_trainer_sees_the_orders_of_a_fit() -> None:
    data, module = Digits(), Module()
    loader = data.train_dataloader()
    theirs = [batch.labels.tolist() for _ in range(2) for batch in loader]
    trainer(max_epochs=2).fit(module, Digits())
    assert [batch.labels.tolist() for batch in module.batches["train"]] == theirs


@pytest.fixture
def global_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets PL_GLOBAL_SEED back after the test."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")


@pytest.mark.usefixtures("global_seed")
def test_seed_everything_reaches_the_order_and_the_augmentation() -> None:
    def seen(global_seed: int, **options: object) -> list[bytes]:
        L.seed_everything(global_seed)
        module = fitted(Digits(augment=Augment(translate=0.2), **options))
        return [batch.images.numpy().tobytes() for batch in module.batches["train"]]

    assert seen(3) == seen(3) == seen(0, seed=3)
    assert not set(seen(0)) & set(seen(3))
    assert seen(0) == seen(3, seed=0)
