"""The diffusion family: conditions, seeds, editing; on networks that can be computed by hand, or tiny ones."""

from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from genai import load
from genai.data.digits import Digits
from genai.errors import UserError
from genai.images import to_float
from genai.models.conditions import drop_condition
from genai.models.diffusion.conditioning_image import Downsampled, Masked
from genai.models.diffusion.diffusion import Diffusion
from genai.models.diffusion.noise import LogNormal, LogUniform, UniformTime
from genai.models.diffusion.preconditioning import EDM, Velocity, XPrediction, append_dims
from genai.models.diffusion.sampling import Sampling
from genai.models.diffusion.weighting import MinSNR, NetworkOutput, VelocityError, denoising_loss
from genai.networks.dit import DiT
from genai.networks.unet import UNet
from genai.runs.loading import build_model

SHAPE = (1, 8, 8)
tiny_unet = partial(UNet, channels=[16, 16], num_blocks=1, embedding_dim=16, head_dim=8)


class Ideal(nn.Module):
    """EDM's F for which D is the optimal denoiser of N(mean(condition), std^2) pixels; the mean of class k is k / 10."""

    def __init__(self, shape: tuple[int, int, int], num_classes: int, std: float = 0.2) -> None:
        super().__init__()
        self.std = std
        self.num_classes = num_classes
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(
        self, x: Tensor, c_noise: Tensor, condition: Tensor | None = None, conditioning_image: Tensor | None = None
    ) -> Tensor:
        sigma = append_dims((4 * c_noise).exp())
        scales = EDM(0.5)((4 * c_noise).exp())
        noisy = x / append_dims(scales.c_in)
        mean = torch.zeros(len(x), 1, 1, 1)
        if condition is not None:
            mean = append_dims(condition @ torch.arange(self.num_classes, dtype=torch.float32) / 10)
        denoised = (self.std**2 * noisy + sigma**2 * mean) / (self.std**2 + sigma**2)
        return (denoised - append_dims(scales.c_skip) * noisy) / append_dims(scales.c_out)


def ideal(**options) -> Diffusion:
    return Diffusion(SHAPE, 10, Ideal, sampling=Sampling(steps=40, sampler="heun"), **options).eval()


def random_model(**options) -> Diffusion:
    """A model whose last layer is not zero."""
    torch.manual_seed(0)
    model = Diffusion(SHAPE, 3, options.pop("network", tiny_unet), **options)
    for parameter in model.averaged.parameters():
        parameter.data.normal_(0, 0.1)
    return model.eval()


def test_samples_follow_their_condition() -> None:
    labels = torch.tensor([0, 3, 7]).repeat(50)
    images = ideal(conditional=True).sample(list(range(150)), labels)
    for label in (0, 3, 7):
        assert float(images[labels == label].mean()) == pytest.approx(label / 10, abs=0.02)
    assert float(images[labels == 0].std()) == pytest.approx(0.2, abs=0.02)


def test_guidance_pushes_beyond_the_condition() -> None:
    model = ideal(conditional=True)
    labels = torch.full((50,), 3)
    seeds = list(range(50))
    plain = model.sample(seeds, labels)
    assert torch.equal(plain, model.sample(seeds, labels, guidance_scale=1.0))
    guided = model.sample(seeds, labels, guidance_scale=2.0)
    assert float(guided.mean()) == pytest.approx(0.6, abs=0.03)


def test_autoguidance_takes_another_model() -> None:
    model, guiding_model = random_model(), random_model()
    same = model.sample([1, 2], guiding_model=guiding_model, guidance_scale=3.0, steps=3)
    torch.testing.assert_close(same, model.sample([1, 2], steps=3), rtol=0, atol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"sampler": "ddpm"}, {"sampler": "heun", "sampler_options": {"churn": 5.0}}])
def test_an_image_depends_on_its_own_seed_and_condition_only(settings) -> None:
    model = random_model(conditional=True)
    many = model.sample([5, 6, 7], torch.tensor([0, 1, 2]), steps=3, **settings)
    alone = model.sample([6], torch.tensor([1]), steps=3, **settings)
    assert torch.equal(many[1:2], alone)


def test_the_loss_is_that_of_the_optimal_denoiser() -> None:
    """E |D - x_0|^2 = s^2 sigma^2 / (s^2 + sigma^2) for Gaussian data, times lambda."""
    model = ideal()
    generator = torch.Generator().manual_seed(0)
    x_0 = 0.2 * torch.randn(4000, *SHAPE, generator=generator)
    sigma = torch.full((4000,), 0.3)
    weight = model.weighting(sigma, model.preconditioning(sigma))
    n = torch.randn(x_0.shape, generator=generator)
    loss = denoising_loss(model.denoiser(model.network, None), x_0, sigma, n, weight).mean()
    expected = (0.2**2 * 0.3**2) / (0.2**2 + 0.3**2) * (0.3**2 + 0.5**2) / (0.3 * 0.5) ** 2
    assert float(loss) == pytest.approx(expected, rel=0.02)


def test_a_variation_of_no_strength_is_the_image() -> None:
    images = torch.rand(3, *SHAPE) * 2 - 1
    model = random_model()
    assert torch.equal(model.vary(images, [1, 2, 3], strength=0.0), images)
    assert not torch.equal(model.vary(images, [1, 2, 3], strength=0.5), images)


def test_more_strength_changes_more() -> None:
    images = 0.2 * torch.randn(20, *SHAPE, generator=torch.Generator().manual_seed(0))
    model = ideal()
    distances = [
        float((model.vary(images, list(range(20)), strength) - images).square().mean()) for strength in (0.2, 0.5, 1.0)
    ]
    assert distances == sorted(distances)


@pytest.mark.parametrize("sampler", ["euler", "heun", "ddpm", "dpmpp", "unipc"])
def test_inpainting_keeps_the_known_pixels_exactly(sampler: str) -> None:
    images = torch.rand(2, *SHAPE) * 2 - 1
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, 2:6, 3:7] = 1
    filled = random_model().restore(images, mask, [0, 1], sampler=sampler, steps=4)
    known = mask.expand_as(images) == 0
    torch.testing.assert_close(filled[known], images[known], rtol=0, atol=1e-6)
    assert not torch.allclose(filled[~known], images[~known], atol=0.1)


def test_inpainting_in_a_share_of_the_steps_starts_from_the_image() -> None:
    images = torch.full((1, *SHAPE), 0.3)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    filled = ideal().restore(images, mask, [0], strength=0.1)
    assert torch.allclose(filled, images, atol=0.05)
    assert not torch.equal(filled[..., :4], images[..., :4])


def test_zero_shot_upscaling_agrees_with_the_small_image() -> None:
    small = torch.rand(2, 1, 4, 4) - 0.5
    big = ideal().upscale(small, [0, 1])
    torch.testing.assert_close(nn.functional.avg_pool2d(big, 2), small, rtol=0, atol=2e-3)


def test_a_model_trained_to_upscale_is_conditioned_on_the_small_image() -> None:
    model = random_model_with_image(Downsampled((2,)))
    assert not torch.equal(
        model.upscale(torch.ones(1, 1, 4, 4), [0], steps=2), model.upscale(-torch.ones(1, 1, 4, 4), [0], steps=2)
    )


def test_training_leaves_out_the_share_of_conditioning_images_that_is_asked_for() -> None:
    def share_kept(dropout: float) -> float:
        received = []
        model = random_model_with_image(Downsampled((2,)), conditioning_dropout=dropout)
        model.network.register_forward_pre_hook(lambda _, args: received.append(args[-1]))
        with suppress(RuntimeError):  # the step ends by asking for its Trainer
            model.training_step((torch.rand(64, *SHAPE), torch.zeros(64, dtype=torch.long)), 0)
        return float((received[0].flatten(1) != 0).any(dim=1).float().mean())

    assert (share_kept(0.0), share_kept(1.0)) == (1, 0)
    assert 0.3 < share_kept(0.5) < 0.7


def random_model_with_image(conditioning_image, **options) -> Diffusion:
    torch.manual_seed(0)
    network = partial(tiny_unet, conditioning_channels=2)
    model = Diffusion(SHAPE, 0, network, conditioning_image=conditioning_image, **options)
    for parameter in model.averaged.parameters():
        parameter.data.normal_(0, 0.1)
    return model.eval()


def test_masked_images_hide_a_rectangle() -> None:
    images = torch.rand(50, 1, 16, 16) + 0.1
    conditioning_image = Masked(0.25, 0.5)(images)
    known = conditioning_image[:, 1:]
    hidden = (1 - known).sum(dim=(1, 2, 3))
    assert bool((hidden >= 9).all())
    assert bool((hidden <= 81).all())
    assert torch.equal(conditioning_image[:, :1], images * known)


def test_a_conditioning_image_needs_channels_of_the_network() -> None:
    with pytest.raises(UserError, match="conditioning_channels to 2"):
        Diffusion(SHAPE, 0, tiny_unet, conditioning_image=Downsampled())


def test_wrong_settings_are_named() -> None:
    with pytest.raises(UserError, match="no sampler 'heum'"):
        random_model().sample([0], sampler="heum")
    with pytest.raises(UserError, match="no schedule"):
        Sampling(schedule="none")


def test_dropping_sets_whole_rows_to_zero() -> None:
    torch.manual_seed(0)
    condition = drop_condition(torch.ones(1000, 3), 0.2)
    assert condition is not None
    kept = condition.sum(dim=1)
    assert set(kept.tolist()) == {0.0, 3.0}
    assert 150 < int((kept == 0).sum()) < 250


def test_absent_attributes_differ_from_the_null_condition() -> None:
    model = random_model(conditional=True)
    assert torch.equal(model.encode_condition(torch.tensor([[0.0, 1.0, 0.0]])), torch.tensor([[-1.0, 1.0, -1.0]]))
    words = torch.tensor([[4, 2, 0]])
    assert torch.equal(model.encode_condition(words), words)


@pytest.mark.slow
@pytest.mark.parametrize("network", [tiny_unet, partial(DiT, dim=32, depth=2, num_heads=2, embedding_dim=16)])
@pytest.mark.parametrize("preconditioning", [EDM(), XPrediction()])
def test_denoisers_learn(network, preconditioning) -> None:
    """A few steps on one image bring the loss far down."""
    torch.manual_seed(0)
    model = Diffusion(SHAPE, 0, network, preconditioning=preconditioning)
    x_0 = torch.rand(1, *SHAPE).expand(32, -1, -1, -1)
    optimizer = torch.optim.Adam(model.network.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        sigma = model.noise(torch.rand(32).clamp(1e-3, 0.999))
        weight = model.weighting(sigma, model.preconditioning(sigma))
        loss = denoising_loss(model.denoiser(model.network, None), x_0, sigma, torch.randn(x_0.shape), weight).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


@pytest.mark.parametrize(
    ("argument", "kind", "settings"),
    [
        ("noise", LogNormal, {"mean": 0.0}),
        ("noise", LogUniform, {}),
        ("noise", UniformTime, {"shift": 2.0}),
        ("weighting", NetworkOutput, {}),
        ("weighting", VelocityError, {}),
        ("weighting", MinSNR, {"gamma": 3.0}),
        ("preconditioning", EDM, {"sigma_data": 0.3}),
        ("preconditioning", XPrediction, {}),
        ("preconditioning", Velocity, {}),
        ("conditioning_image", Downsampled, {"factors": [2]}),
        ("conditioning_image", Masked, {}),
    ],
)
def test_every_part_can_be_named_in_a_config(argument: str, kind: type, settings: dict[str, Any]) -> None:
    conditioning_channels = 2 if argument == "conditioning_image" else 0
    parts = {
        "network": {"class_path": "genai.networks.unet.UNet", "init_args": {"conditioning_channels": conditioning_channels}},
        argument: {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": settings},
    }
    config = {"model": {"class_path": "genai.models.diffusion.diffusion.Diffusion", "init_args": parts}}
    model = build_model(config, {"image_shape": [1, 8, 8], "num_classes": 0})
    assert getattr(model, argument) == kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()})


def test_the_options_of_a_sampler_can_be_named_in_a_config() -> None:
    sampling = {"sampler": "adaptive", "sampler_options": {"tolerance": 1, "max_steps": 40}}
    parts = {"network": {"class_path": "genai.networks.unet.UNet"}, "sampling": sampling}
    config = {"model": {"class_path": "genai.models.diffusion.diffusion.Diffusion", "init_args": parts}}
    model = build_model(config, {"image_shape": [1, 8, 8], "num_classes": 0})
    assert model.sampling == Sampling(sampler="adaptive", sampler_options={"tolerance": 1.0, "max_steps": 40})


def test_a_model_of_other_conditioning_images_edits_without_them() -> None:
    conditioned_unet = partial(tiny_unet, conditioning_channels=2)
    images, mask = 2 * torch.rand(2, *SHAPE) - 1, torch.zeros(2, 1, 8, 8)
    mask[..., 2:6] = 1
    filler, enlarger = (
        random_model(network=conditioned_unet, conditioning_image=Masked()),
        random_model(network=conditioned_unet, conditioning_image=Downsampled((2,))),
    )
    kept = enlarger.restore(images, mask, [1, 2], steps=3)
    torch.testing.assert_close(torch.where(mask > 0, 0, kept), torch.where(mask > 0, 0, images), rtol=0, atol=1e-5)
    small = avg_pool2d(images, 2)
    assert torch.equal(filler.upscale(small, [1, 2], steps=3), filler.sample([1, 2], small=small, steps=3))
    with pytest.raises(UserError, match="upscales by 2, not by 4"):
        enlarger.upscale(avg_pool2d(images, 4), [1, 2])


def test_a_reverse_trajectory_is_about_as_bright_at_every_level() -> None:
    passed = ideal().reverse_trajectory([1, 2, 3], sampler="adaptive")
    assert float(passed[0].std()) == pytest.approx(1.0, abs=0.1)
    assert float(passed.std(dim=(2, 3, 4)).max()) < 1.2


def test_noise_levels_and_steps_are_checked() -> None:
    for settings in ({"sigma_min": 0.0}, {"sigma_min": 80.0}, {"sigma_max": float("inf")}):
        with pytest.raises(UserError, match="sigma_min"):
            Sampling(**settings)
    model: Any = load("zoo/digits-diffusion")
    images = to_float(Digits().split("test").batch(range(2)).images)
    with pytest.raises(UserError, match="steps"):
        model.likelihood(images, [0, 1], torch.tensor([0, 1]), steps=1)
