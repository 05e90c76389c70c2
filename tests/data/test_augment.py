"""Augmentation against closed forms."""

import pytest
import torch

from genai.data.augment import Augment, warp


def random_images(num: int, side: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(num, 2, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def matrix(*rows: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor([rows], dtype=torch.float32)


@pytest.mark.parametrize("padding", ["black", "border"])
def test_no_movement_is_the_identity(padding: str) -> None:
    images = random_images(1)
    torch.testing.assert_close(warp(images, matrix((1, 0, 0), (0, 1, 0)), padding), images, atol=1e-5, rtol=0)


def test_zero_strength_returns_its_input_untouched() -> None:
    images = random_images(4)
    assert not Augment().enabled
    assert Augment()(images, generator()) is images


def test_a_shift_by_whole_pixels() -> None:
    images = random_images(1)
    moved = warp(images, matrix((1, 0, 3 * 2 / 16), (0, 1, -2 * 2 / 16)), "black")  # output (x, y) shows input (x + 3, y - 2)
    torch.testing.assert_close(moved[..., 2:, :-3], images[..., :-2, 3:], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[..., :2, :], torch.full_like(moved[..., :2, :], -1), atol=1e-5, rtol=0)
    bordered = warp(images, matrix((1, 0, 3 * 2 / 16), (0, 1, 0)), "border")
    torch.testing.assert_close(bordered[..., -3:], images[..., -1:].expand(-1, -1, -1, 3), atol=1e-5, rtol=0)


def test_a_quarter_turn() -> None:
    images = random_images(1)
    turned = warp(images, matrix((0, -1, 0), (1, 0, 0)), "black")
    torch.testing.assert_close(turned, torch.rot90(images, 1, (2, 3)), atol=1e-5, rtol=0)


def test_transforms_stay_within_their_limits() -> None:
    augment = Augment(rotate=30, scale=0.2, translate=0.1)
    maps = augment.inverse_affine(torch.rand(4, 10_000, generator=generator()) * 2 - 1)
    magnification = torch.linalg.det(maps[:, :, :2]) ** -0.5
    angle = torch.rad2deg(torch.atan2(maps[:, 1, 0], maps[:, 0, 0]))
    for value, low, high in ((magnification, 0.8, 1.2), (angle, -30, 30), (maps[:, :, 2], -0.2, 0.2)):
        assert value.min() == pytest.approx(low, abs=0.01 * (high - low))
        assert value.max() == pytest.approx(high, abs=0.01 * (high - low))


def test_flip_keeps_pixels_and_flips_half() -> None:
    images = random_images(1000, side=4)
    flipped = Augment(flip=True)(images, generator())
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 400 < mirrored.sum() < 600


def test_each_image_moves_on_its_own_and_a_seed_repeats() -> None:
    images = random_images(1).expand(8, -1, -1, -1)
    augment = Augment(rotate=20, scale=0.1, translate=0.1)
    first, again, other = (augment(images, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({image.numpy().tobytes() for image in first}) == 8
    assert first.min() >= -1 - 1e-6
    assert first.max() <= 1 + 1e-6


def test_float32_under_autocast() -> None:
    images, augment = random_images(8), Augment(flip=True, rotate=20, translate=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        moved = augment(images, generator())
    assert moved.dtype == torch.float32
    assert torch.equal(moved, augment(images, generator()))
