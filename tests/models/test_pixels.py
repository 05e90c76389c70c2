"""Images as sequences: tokens and images correspond, the likelihood is exact, samples depend on their seed alone."""

import itertools
import math
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor

from genai.data.digits import Digits
from genai.errors import UserError
from genai.models.autoregressive.pixels import PixelSequence
from genai.models.seeds import image_seeds
from genai.networks.transformer import Transformer
from genai.training.callbacks.checkpoints import checkpoint_callbacks
from genai.training.checks import is_score_of_samples

transformer = partial(Transformer, dim=16, depth=2, num_heads=2)
adamw = partial(torch.optim.AdamW, lr=1e-3)


def model(shape: tuple[int, int, int] = (1, 4, 4), num_classes: int = 0, **options: object) -> PixelSequence:
    torch.manual_seed(0)
    made = PixelSequence(shape, num_classes, transformer, adamw, **options).eval()
    for parameter in made.averaged.parameters():  # the last layers are zero at initialisation
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize(("shape", "levels", "patch_size"), [((1, 4, 6), 2, 2), ((3, 4, 4), 2, 2), ((1, 4, 4), 256, 1)])
def test_tokens_and_images_are_inverse(shape: tuple[int, int, int], levels: int, patch_size: int) -> None:
    made = model(shape, levels=levels, patch_size=patch_size)
    images = torch.randint(levels, (5, *shape)) * (2 / (levels - 1)) - 1
    tokens = made.to_tokens(images, torch.full_like(images, 0.5))
    assert tokens.shape == (5, shape[1] * shape[2] // patch_size**2)
    assert torch.allclose(made.to_images(tokens), images, atol=1e-6)


def test_grey_pixels_are_white_with_their_brightness() -> None:
    grey = torch.tensor([-1.0, -0.5, 0.0, 1.0])[:, None, None, None].expand(4, 1, 64, 64)
    made = model((1, 64, 64))
    white = made.to_tokens(grey, torch.rand(grey.shape, generator=torch.Generator().manual_seed(0))).float().mean(dim=1)
    assert torch.allclose(white, torch.tensor([0.0, 0.25, 0.5, 1.0]), atol=0.03)


@pytest.mark.parametrize("patch_size", [1, 2])
def test_probabilities_of_all_images_sum_to_one(patch_size: int) -> None:
    made = model((1, 2, 4), patch_size=patch_size)
    images = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=8))).view(-1, 1, 2, 4)
    estimate = made.likelihood(images, image_seeds(0, len(images)))
    assert torch.exp(-estimate.nats).sum() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(estimate.bits_per_dim, estimate.nats / (8 * math.log(2)))
    assert estimate.nats.std() > 0.1


def test_an_8_bit_pixel_has_one_of_256_values() -> None:
    made = model((1, 1, 1), levels=256)
    images = (torch.arange(256.0) / 127.5 - 1).view(-1, 1, 1, 1)
    estimate = made.likelihood(images, image_seeds(0, 256))
    assert torch.exp(-estimate.nats).sum() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(estimate.bits_per_dim, estimate.nats / math.log(2))
    assert estimate.kind == "exact, 8-bit pixels"
    assert torch.equal(made.likelihood(images, image_seeds(9, 256)).nats, estimate.nats)  # nothing is binarised


def test_samples_have_the_probabilities_that_the_likelihood_says() -> None:
    made = model((1, 2, 2), patch_size=2)
    images = made.sample(image_seeds(0, 2048))
    values = made.to_tokens(images, torch.full_like(images, 0.5))[:, 0]
    every = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4))).view(-1, 1, 2, 2)
    expected = torch.exp(-made.likelihood(every, image_seeds(0, 16)).nats)
    found = torch.bincount(values, minlength=16) / 2048
    order = made.to_tokens(every, torch.full_like(every, 0.5))[:, 0]
    assert torch.allclose(found[order].double(), expected, atol=0.035)


def test_a_sample_depends_on_its_seed_and_condition_alone() -> None:
    made = model((1, 4, 4), num_classes=3, conditional=True)
    seeds, labels = image_seeds(5, 6), torch.tensor([0, 1, 2, 0, 1, 2])
    together = made.sample(seeds, labels)
    assert torch.equal(together[4:5], made.sample(seeds[4:5], labels[4:5]))
    assert set(together.unique().tolist()) == {-1.0, 1.0}


def test_the_last_patch_changes_no_earlier_probability() -> None:
    made = model()
    tokens = torch.randint(2, (2, 16))
    changed = tokens.clone()
    changed[:, -1] = 1 - changed[:, -1]
    before, after = (made.averaged(t[:, :-1]) for t in (tokens, changed))
    assert torch.equal(before, after)


def test_unfit_patches_are_refused() -> None:
    for options in ({"patch_size": 3}, {"patch_size": 2, "levels": 256}, {"levels": 7}):
        with pytest.raises(UserError, match=r"use 2|does not fit"):
            model(**options)


def test_it_learns_in_a_plain_trainer() -> None:
    data = Digits(batch_size=64)
    made = PixelSequence((1, 8, 8), 0, transformer, partial(torch.optim.AdamW, lr=1e-2), patch_size=2)
    losses: list[Tensor] = []
    made.log = lambda name, value, **_: losses.append(value.detach()) if name == "train/loss" else None  # type: ignore[method-assign]
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    L.Trainer(accelerator="cpu", max_epochs=2, limit_val_batches=0, log_every_n_steps=1, **quiet).fit(made, data)
    assert losses[0] == pytest.approx(64 * math.log(2), rel=0.01)  # uniform at initialisation
    assert losses[-1] < 36


def test_without_scored_epochs_the_best_validation_loss_is_kept(tmp_path: Path) -> None:
    assert not is_score_of_samples("val/loss")
    assert all(map(is_score_of_samples, ("val/fid", "val/kid_std")))
    assert len(checkpoint_callbacks(tmp_path, "val/loss", 0, None, is_score=False)) == 2
    assert len(checkpoint_callbacks(tmp_path, "val/fid", 0, None, is_score=True)) == 1
