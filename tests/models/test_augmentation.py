"""DiffAugment: what each operation does to an image, how often, and the controller of its probability."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor

from genai import runs
from genai.cli import main
from genai.errors import UserError
from genai.models.gan.augmentation import (
    OPERATIONS,
    AugmentationControl,
    DiffAugment,
    Operation,
    augmented_logits,
    cutout,
    translation,
)
from genai.models.gan.gan import GAN
from genai.networks.mlp import MLPDiscriminator, MLPGenerator

ROOT = Path(__file__).parent.parent.parent
FIT = ["-c", str(ROOT / "configs/digits/gan.yaml"), "--tracker", "none", "--trainer.enable_progress_bar", "false"]
FIT += ["--trainer.enable_model_summary", "false", "--evaluation.every_n_epochs", "0", "--gallery.every_n_epochs", "0"]
FIT += ["--model.init_args.generator.init_args.hidden", "[8]", "--model.init_args.discriminator.init_args.hidden", "[8]"]

each = pytest.mark.parametrize("operation", get_args(Operation))


def pictures(num: int, *shape: int) -> Tensor:
    torch.manual_seed(0)
    return torch.rand(num, *shape) * 1.8 - 0.9


@each
def test_images_are_unchanged_to_the_last_bit_at_p_0(operation: Operation) -> None:
    images = pictures(50, 3, 16, 16)
    assert torch.equal(DiffAugment([operation], p=0.0)(images), images)


@each
def test_nearly_every_image_changes_at_p_1_and_keeps_its_shape(operation: Operation) -> None:
    """A translation is by no pixel once in 25 images of 16 pixels."""
    images = pictures(1000, 3, 16, 16)
    changed = DiffAugment([operation], p=1.0)(images)
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert (changed != images).flatten(1).any(dim=1).float().mean() > 0.93


@pytest.mark.parametrize("p", [0.2, 0.5])
@pytest.mark.parametrize("operation", ["colour", "cutout"])
def test_a_share_p_of_the_images_changes(operation: Operation, p: float) -> None:
    images = pictures(4000, 3, 4, 4)
    changed = (DiffAugment([operation], p=p)(images) != images).flatten(1).any(dim=1).sum().item()
    assert abs(changed - 4000 * p) < 4 * (4000 * p * (1 - p)) ** 0.5


def test_operations_are_chosen_independently() -> None:
    """At p = 1/2 two operations leave a quarter of the images unchanged."""
    images = pictures(4000, 3, 4, 4)
    spared = (DiffAugment(["colour", "cutout"], p=0.5)(images) == images).flatten(1).all(dim=1).sum().item()
    assert abs(spared - 1000) < 4 * 750**0.5


@each
def test_images_of_a_batch_are_changed_differently(operation: Operation) -> None:
    images = pictures(1, 3, 16, 16).expand(40, -1, -1, -1)
    assert len(DiffAugment([operation])(images).flatten(1).unique(dim=0)) > 15


@each
def test_the_gradient_with_respect_to_the_images_is_that_of_finite_differences(operation: Operation) -> None:
    def seeded(images: Tensor) -> Tensor:
        torch.manual_seed(3)
        changed: Tensor = DiffAugment([operation])(images)
        return changed

    images = pictures(2, 2, 4, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(seeded, images)
    (gradient,) = torch.autograd.grad(seeded(images).sum(), images)
    assert gradient.isfinite().all()
    assert (gradient != 0).any()


def test_a_penalty_can_be_differentiated_through_all_operations() -> None:
    images = pictures(8, 3, 16, 16).requires_grad_()
    weight = torch.randn(3 * 16 * 16, requires_grad=True)
    (gradient,) = torch.autograd.grad((DiffAugment()(images).flatten(1) @ weight).sum(), images, create_graph=True)
    gradient.square().sum().backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
    assert (weight.grad != 0).any()


@pytest.mark.parametrize(("size", "reach"), [(8, 1), (16, 2), (32, 4), (64, 8)])
def test_translation_moves_by_up_to_an_eighth_and_fills_with_black(size: int, reach: int) -> None:
    """Every pixel has a different value, so the transform of each image can be inferred."""
    torch.manual_seed(0)
    image = torch.arange(size * size).reshape(1, size, size) / size**2
    shifts = set()
    for moved in translation(image.expand(400, -1, -1, -1)):
        row, column = (moved[0] == image[0, size // 2, size // 2]).nonzero()[0].tolist()
        down, right = row - size // 2, column - size // 2
        expected = torch.nn.functional.pad(image, (right, -right, down, -down), value=-1.0)
        assert torch.equal(moved, expected)
        shifts |= {(0, down), (1, right)}
    assert shifts == {(axis, shift) for axis in (0, 1) for shift in range(-reach, reach + 1)}


@pytest.mark.parametrize("size", [8, 28, 64])
def test_cutout_greys_a_rectangle_of_a_quarter_of_the_area_at_most(size: int) -> None:
    images = pictures(400, 3, size, size) + 2  # nowhere 0
    grey = cutout(images) == 0
    assert (grey == grey[:, :1]).all()  # all channels alike
    hidden = grey[:, 0]
    assert torch.equal(hidden, hidden.any(dim=2, keepdim=True) & hidden.any(dim=1, keepdim=True))  # a rectangle
    area = hidden.float().mean(dim=(1, 2))
    assert area.max() <= 0.25
    assert area.max() > 0.15
    assert hidden.any(dim=0).all()  # and no pixel is safe


def test_cutout_leaves_the_other_pixels() -> None:
    torch.manual_seed(1)
    images = pictures(100, 3, 8, 8) + 2
    changed = cutout(images)
    assert torch.equal(changed[changed != 0], images[changed != 0])


def test_colour_moves_brightness_by_a_half_at_most_and_all_channels_alike() -> None:
    grey = torch.full((2000, 3, 4, 4), 0.2)  # neither saturation nor contrast show
    brightness = OPERATIONS["colour"](grey) - grey
    torch.testing.assert_close(brightness, brightness[:, :1, :1, :1].expand_as(brightness))
    assert brightness.abs().max() <= 0.5 + 1e-6
    assert brightness.min() < -0.49
    assert brightness.max() > 0.49


def test_colour_keeps_the_order_of_grey_levels() -> None:
    """Contrast is 0.5 to 1.5: differences of a grey image scale by that."""
    ramp = torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4).expand(2000, 3, -1, -1)
    changed = OPERATIONS["colour"](ramp)[:, 0].flatten(1)
    contrast = (changed[:, -1] - changed[:, 0]) / 2
    assert 0.5 - 1e-5 <= contrast.min() < 0.51
    assert 1.49 < contrast.max() <= 1.5 + 1e-5
    torch.testing.assert_close(changed.diff(), (contrast * 2 / 15)[:, None].expand(-1, 15))


def test_saturation_scales_channels_about_their_mean_by_up_to_2() -> None:
    torch.manual_seed(0)
    red = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1).expand(4000, -1, 2, 2)
    changed = OPERATIONS["colour"](red)
    range_ = changed[:, 0, 0, 0] - changed[:, 1, 0, 0]  # saturation times contrast: 0 to 3
    assert range_.min() >= 0
    assert range_.min() < 0.05
    assert 2.7 < range_.max() <= 3
    torch.testing.assert_close(changed[:, 1], changed[:, 2])


APART = (torch.ones(8), -torch.ones(8))
MIXED = (torch.tensor([1.0, -1.0, 1.0, -1.0]), torch.zeros(4))


@pytest.mark.parametrize(("logits", "p"), [(APART, 0.6), (MIXED, 0.4), (APART[::-1], 0.4)], ids=["apart", "mixed", "reversed"])
def test_p_rises_while_the_discriminator_separates_real_from_generated_and_falls_otherwise(
    logits: tuple[Tensor, Tensor], p: float
) -> None:
    augmentation = DiffAugment(p=0.5)
    AugmentationControl(target=0.6, adapt_kimg=1.0).update(augmentation, *logits, num_images=100)
    assert float(augmentation.p) == pytest.approx(p)


def test_p_stays_where_r_t_is_the_target() -> None:
    augmentation = DiffAugment(p=0.5)
    control = AugmentationControl(target=0.5, adapt_kimg=1.0)
    control.update(augmentation, torch.tensor([1.0, 1.0, 1.0, -1.0]), torch.zeros(4), num_images=100)  # r_t = (3 - 1) / 4
    assert float(augmentation.p) == 0.5


def test_control_does_not_depend_on_the_scale_and_zero_of_the_logits() -> None:
    for scale, zero in ((1.0, 0.0), (1e-3, 50.0), (1e4, -3.0)):
        augmentation = DiffAugment(p=0.5)
        control = AugmentationControl(target=0.6, adapt_kimg=1.0)
        control.update(augmentation, scale * APART[0] + zero, scale * APART[1] + zero, num_images=100)
        assert float(augmentation.p) == pytest.approx(0.6)


@pytest.mark.parametrize("images", [64, 256])
def test_p_goes_from_0_to_1_in_adapt_kimg_and_no_further(images: int) -> None:
    augmentation, control = DiffAugment(p=0.0), AugmentationControl(target=0.6, adapt_kimg=2.048)
    for _ in range(1024 // images):
        control.update(augmentation, *APART, num_images=images)
    assert float(augmentation.p) == pytest.approx(0.5)
    for _ in range(3 * 2048 // images):
        control.update(augmentation, *APART, num_images=images)
    assert float(augmentation.p) == 1.0
    for _ in range(3 * 2048 // images):
        control.update(augmentation, *MIXED, num_images=images)
    assert float(augmentation.p) == 0.0


@pytest.mark.parametrize("p", [1.5, -0.1])
def test_a_p_that_is_no_probability_is_refused(p: float) -> None:
    with pytest.raises(UserError, match="use 0 to 1"):
        DiffAugment(p=p)


@pytest.mark.parametrize("target", [6.0, 1.0])
def test_a_target_that_r_t_never_exceeds_is_refused(target: float) -> None:
    with pytest.raises(UserError, match="use less than 1"):
        AugmentationControl(target)


def test_control_needs_an_augmentation() -> None:
    with pytest.raises(UserError, match="add augmentation"):
        GAN((1, 8, 8), 0, MLPGenerator, MLPDiscriminator, augmentation_control=AugmentationControl())


def adaptive_gan() -> GAN:
    augmentation, control = DiffAugment(p=0.0), AugmentationControl()
    return GAN((1, 8, 8), 0, MLPGenerator, MLPDiscriminator, augmentation=augmentation, augmentation_control=control)


def test_p_is_saved_with_its_gan(tmp_path: Path) -> None:
    model, again = adaptive_gan(), adaptive_gan()
    assert model.augmentation is not None
    assert again.augmentation is not None
    model.augmentation.p.fill_(0.25)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    again.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert float(again.augmentation.p) == 0.25


def test_the_discriminator_sees_augmented_images_in_training_and_plain_ones_for_realness() -> None:
    model = adaptive_gan().eval()
    assert model.augmentation is not None
    model.augmentation.p.fill_(1.0)
    images = pictures(8, 1, 8, 8)
    first, second = (augmented_logits(model.discriminator, model.augmentation, images, None) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(model.realness(images), model.realness(images))
    torch.testing.assert_close(model.realness(images), torch.sigmoid(model.discriminator(images)))


def saved_p(run: Path) -> float:
    return float(torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]["augmentation.p"])


@pytest.mark.slow
def test_a_fit_moves_p_by_the_images_it_saw_and_a_resumed_one_goes_on_from_there(workspace: Path) -> None:
    """A target below -1 is always exceeded: of 17 batches of 64 images an epoch, p moves after every fourth."""
    adaptive = [
        "--model.init_args.augmentation",
        "{class_path: genai.models.gan.augmentation.DiffAugment, init_args: {p: 0.0}}",
    ]
    adaptive += ["--model.init_args.augmentation_control", "{target: -1.5, adapt_kimg: 10}"]
    assert main(["fit", *FIT, *adaptive, "--trainer.max_epochs", "1"]) == 0
    run = runs.find("digits-gan").path
    assert saved_p(run) == pytest.approx(16 * 64 / 10_000)
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs", "2"]) == 0
    assert saved_p(run) == pytest.approx(32 * 64 / 10_000)
