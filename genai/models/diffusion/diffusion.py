"""Diffusion and rectified flow: one LightningModule for every network, preconditioning, condition and sampler."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from genai.errors import UserError
from genai.models.base import ImageModel, NetworkFactory, Shape
from genai.models.capabilities import LikelihoodEstimate
from genai.models.conditions import check_labels, drop_condition, encode_labels
from genai.models.diffusion import editing, process
from genai.models.diffusion.conditioning_image import (
    ConditioningImage,
    Downsampled,
    Masked,
    null_conditioning_image,
    with_known,
)
from genai.models.diffusion.consistency import Consistency
from genai.models.diffusion.guidance import guided
from genai.models.diffusion.likelihood import dequantise, log_density, log_prob_of_8_bits
from genai.models.diffusion.noise import LogNormal, NoiseDistribution, stratified_uniform
from genai.models.diffusion.preconditioning import EDM, Denoise, Network, Preconditioning, denoise
from genai.models.diffusion.sampling import Sampling
from genai.models.diffusion.sigmas import karras
from genai.models.diffusion.weighting import NetworkOutput, Weighting, denoising_loss
from genai.models.ema import Averaged, PowerAveraged
from genai.models.optimization import optimizer_and_schedule
from genai.models.schedules import Cosine
from genai.models.seeds import SeededRandom, seeded_normal

ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3, "betas": [0.9, 0.99]}}


class Diffusion(ImageModel):
    """A denoiser, trained on images with noise of all levels. Sampling goes from noise to an image in steps.

    Args:
        image_shape: (C, H, W), linked from the data.
        num_classes: width of the condition (classes, attributes, words of the vocabulary), linked from the data.
        network: factory of the network (x, c_noise, condition, conditioning_image) -> image.
        optimizer: any torch optimiser.
        preconditioning: scales the network's input and output; EDM by default, Velocity for rectified flow.
        noise: distribution of the noise levels in training; LogNormal by default.
        weighting: weight of the squared error at each noise level; NetworkOutput by default.
        consistency: train with the consistency loss instead of the denoising loss, for few steps; `weighting` is then unused.
        conditional: condition the network on the labels of the data.
        condition_dropout: share of the conditions replaced by the null condition in training, for classifier-free guidance.
        conditioning_image: condition the network on an image made from the clean one; None for none.
        conditioning_dropout: share of the conditioning images replaced by zeros in training.
        sampling: default settings of `sample`; its options take precedence.
        lr_schedule: factor on the learning rate, a function of the images seen.
        ema_halflife_kimg: half-life of the averaged network, in thousands of images.
        power_stds: widths of further averages, as shares of the training. From two or more, such as 0.05 and 0.1, `genai
            average` makes an average of any width after training.
        compile: compile the networks, see `Model`.

    Raises:
        UserError: the network takes another number of conditioning channels than the conditioning image has.
    """

    val_metrics: tuple[str, ...] = ("loss",)

    def __init__(
        self,
        image_shape: Shape,
        num_classes: int,
        network: NetworkFactory,
        optimizer: OptimizerCallable = ADAM,  # type: ignore[assignment]
        preconditioning: Preconditioning | None = None,
        noise: NoiseDistribution | None = None,
        weighting: Weighting | None = None,
        consistency: Consistency | None = None,
        conditional: bool = False,
        condition_dropout: float = 0.1,
        conditioning_image: ConditioningImage | None = None,
        conditioning_dropout: float = 0.1,
        sampling: Sampling | None = None,
        lr_schedule: Cosine | None = None,
        ema_halflife_kimg: float = 50.0,
        power_stds: Sequence[float] = (),
        compile: bool | str = False,
    ) -> None:
        super().__init__(image_shape, num_classes, compile=compile)
        check_labels(conditional, num_classes)
        self.conditional = conditional
        self.network = network(self.image_shape, num_classes if conditional else 0)
        self.averaged = Averaged(self.network, ema_halflife_kimg)
        self.power_averages = nn.ModuleList(PowerAveraged(self.network, std) for std in power_stds)
        self.optimizer = optimizer
        self.preconditioning = preconditioning or EDM()
        self.noise = noise or LogNormal()
        self.weighting = weighting or NetworkOutput()
        self.consistency = consistency
        self.condition_dropout = condition_dropout
        self.conditioning_image = conditioning_image
        self.conditioning_dropout = conditioning_dropout
        self.sampling = sampling or Sampling()
        self.lr_schedule = lr_schedule
        channels, expected = getattr(self.network, "conditioning_channels", 0), image_shape[0] + 1 if conditioning_image else 0
        if channels != expected:
            raise UserError(
                f"the network has {channels} conditioning_channels and the model's conditioning image has {expected} channels: "
                f"set network.init_args.conditioning_channels to {expected}"
            )

    # -- training --------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        return optimizer_and_schedule(self.optimizer, self.network, self.lr_schedule, self)

    def averages(self) -> Sequence[tuple[Averaged | PowerAveraged, nn.Module]]:
        return [(average, self.network) for average in (self.averaged, *self.power_averages)]  # type: ignore[misc]

    def initialise_from(self, state: Mapping[str, Tensor]) -> None:
        """Load the averaged weights of another model, from its `export_state`."""
        for network in (self.network, self.averaged.network):
            network.load_state_dict(state)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x_0, labels = batch  # (N, C, H, W), (N,) or (N, K)
        condition = drop_condition(encode(self, labels), self.condition_dropout)
        image = None if self.conditioning_image is None else self.conditioning_image(x_0)
        image = drop_condition(image, self.conditioning_dropout)
        sigma = self.noise(stratified_uniform(len(x_0), self.device))  # (N,)
        n = torch.randn_like(x_0)
        denoise = denoiser(self, self.network, condition, image)
        if self.consistency is None:
            loss = denoising_loss(denoise, x_0, sigma, n, self.weighting(sigma, self.preconditioning(sigma))).mean()
        else:
            loss = self.consistency(denoise, x_0, sigma, n, self.images_seen).mean()
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        self.count_images(len(x_0))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        split = "test" if self.trainer.testing else "val"
        self.log(f"{split}/loss", evaluation_loss(self, batch, batch_idx), sync_dist=True, batch_size=len(batch[0]))

    test_step = validation_step

    # -- sampling --------------------------------------------------------------------------------------------------------

    def generate(
        self,
        seeds: Sequence[int],
        condition: Tensor | None,
        image: Tensor | None = None,
        strength: float = 1.0,
        mask: Tensor | None = None,
        small: Tensor | None = None,
        conditioning_image: Tensor | None = None,
        initial_noise: Tensor | None = None,
        guiding_model: "Diffusion | None" = None,
        callback: Callable[[Tensor, Tensor], Any] | None = None,
        network: nn.Module | None = None,
        **settings: Any,
    ) -> Tensor:
        """Generate one image per seed: (len(seeds), C, H, W) in [-1, 1].

        Args:
            seeds: of the noise.
            condition: classes, attributes or words, see `sample`.
            image: (N, C, H, W), the start of a variation; with `mask`, its pixels outside the mask are kept.
            strength: share of the steps that a variation takes, 0 to 1.
            mask: (N, 1, H, W), 1 where `image` is to be filled in.
            small: (N, C, H / f, W / f), the required means of the images over squares of f x f pixels.
            conditioning_image: (N, C + 1, H, W), of a model with `conditioning_image`; None for zeros.
            initial_noise: (N, C, H, W), standard normal; None for the noise of the seeds.
            guiding_model: model of autoguidance; None for classifier-free guidance.
            callback: called with (x, sigma) before each evaluation.
            network: the network; None for the averaged one.
            settings: fields of `Sampling`, instead of the model's own.

        Raises:
            UserError: a setting is out of range, or not one of the sampler.
        """
        sampling = self.sampling.override(**settings)
        random = SeededRandom(seeds, self.device)
        encoded = encode(self, condition)
        network = self.averaged if network is None else network
        denoise = denoiser(self, network, encoded, conditioning_image)
        if guiding_model is None:  # classifier-free guidance
            null_condition = None if encoded is None else torch.zeros_like(encoded)
            guide = denoiser(self, network, null_condition, conditioning_image)
        else:  # autoguidance
            guide = denoiser(guiding_model, guiding_model.averaged, encode(guiding_model, condition), conditioning_image)
        denoise = guided(denoise, guide, sampling.guidance_scale, sampling.guidance_interval)
        if small is not None:
            denoise = editing.super_resolution(denoise, small, self.image_shape[-1] // small.shape[-1])
        if mask is not None and image is not None:
            denoise = editing.inpainting(denoise, image, mask)
        if callback is not None:
            denoise = editing.with_callback(denoise, callback)
        if sampling.bfloat16:
            denoise = editing.in_bfloat16(denoise)
        sigmas = editing.last_sigmas(sampling.sigmas(), strength)
        if len(sigmas) == 1 and image is not None:
            return image
        noise = partial(random.normal, self.image_shape)
        x = float(sigmas[0]) * (noise() if initial_noise is None else initial_noise)
        if image is not None and mask is None:
            x = x + image
        return sampling.run_sampler(denoise, x, sigmas, noise).clamp(-1, 1)

    def vary(
        self, images: Tensor, seeds: Sequence[int], strength: float, condition: Tensor | None = None, **settings: Any
    ) -> Tensor:
        """Variations of images: add noise, then denoise (SDEdit, Meng et al. 2021, arXiv:2108.01073): (N, C, H, W).

        Args:
            images: (N, C, H, W) in [-1, 1].
            seeds: one for each image.
            strength: share of the steps; 0 returns the images, 1 starts from noise alone.
            condition: of the variations, see `sample`.
            settings: options of `generate`.
        """
        return self.sample(seeds, condition, image=images, strength=strength, **settings)

    def restore(
        self, images: Tensor, mask: Tensor, seeds: Sequence[int], condition: Tensor | None = None, **settings: Any
    ) -> Tensor:
        """Inpaint where `mask` (N, 1, H, W) is 1 and keep the other pixels exactly: (N, C, H, W).

        A model trained for it (`conditioning_image`: Masked) is conditioned on the known pixels too.
        """
        if isinstance(self.conditioning_image, Masked):
            known = 1 - mask.to(images)
            settings["conditioning_image"] = with_known(images * known, known)
        return self.sample(seeds, condition, image=images, mask=mask, **settings)

    def upscale(self, small: Tensor, seeds: Sequence[int], condition: Tensor | None = None, **settings: Any) -> Tensor:
        """Images (N, C, H, W) whose means over squares of pixels are `small` (N, C, H / f, W / f).

        A model trained for it (`conditioning_image`: Downsampled) is conditioned on the small image; the denoised images of any
        other are projected to those that match it, see `editing.super_resolution`.

        Raises:
            UserError: the model was trained with other factors.
        """
        factor = self.image_shape[-1] // small.shape[-1]
        if isinstance(self.conditioning_image, Downsampled):
            if factor not in self.conditioning_image.factors:
                factors = " or ".join(map(str, self.conditioning_image.factors))
                raise UserError(f"this model upscales by {factors}, not by {factor}: choose another --factor")
            image = editing.repeat_pixels(small, factor)
            settings["conditioning_image"] = with_known(image, torch.ones_like(image[:, :1]))
            return self.sample(seeds, condition, **settings)
        return self.sample(seeds, condition, small=small, **settings)

    # -- likelihood and process ------------------------------------------------------------------------------------------

    def likelihood(
        self, images: Tensor, seeds: Sequence[int], condition: Tensor | None = None, steps: int = 50
    ) -> LikelihoodEstimate:
        """Negative log-likelihood of 8-bit images by the probability-flow ODE, see `log_density`.

        Args:
            images: (N, C, H, W) in [-1, 1], of 256 values per pixel.
            seeds: of the dequantisation noise and of Hutchinson's probe, one for each image.
            condition: of the images, see `sample`; None for no condition.
            steps: steps of Heun's method, of two evaluations of the network and its gradient each.
        """
        random = SeededRandom(seeds, self.device)
        x = dequantise(images.to(self.device), random.uniform(self.image_shape).to(images.dtype))
        probe = random.normal(self.image_shape).sign()
        sigmas = karras(steps, self.sampling.sigma_min, self.sampling.sigma_max)[:-1].flip(0)
        encoded = encode(self, None if condition is None else condition.to(self.device))
        densities = log_density(denoiser(self, self.averaged, encoded), x, sigmas, probe)
        num_dims = images[0].numel()
        kind = f"probability-flow ODE with {steps} steps and Hutchinson's trace estimate, dequantised 8-bit pixels"
        return LikelihoodEstimate.of_log_prob(log_prob_of_8_bits(densities, num_dims), num_dims, kind)

    @torch.no_grad()
    def denoising_errors(
        self, images: Tensor, seeds: Sequence[int], condition: Tensor | None = None, num_levels: int = 10
    ) -> Tensor:
        """Denoising loss of each image (N, C, H, W) with the averaged network, mean over levels of the training noise: (N,)."""
        random = SeededRandom(seeds, self.device)
        x_0, ones = images.to(self.device), torch.ones(len(images), device=self.device)
        denoise = denoiser(self, self.averaged, encode(self, None if condition is None else condition.to(self.device)))
        sigmas = self.noise((torch.arange(num_levels, device=self.device) + 0.5) / num_levels)
        weights = self.weighting(sigmas, self.preconditioning(sigmas))
        noises = (random.normal(self.image_shape) for _ in range(num_levels))
        levels = zip(sigmas, noises, weights, strict=True)
        return torch.stack([denoising_loss(denoise, x_0, s * ones, n, w * ones) for s, n, w in levels]).mean(dim=0)

    @torch.no_grad()
    def invert(
        self,
        images: Tensor,
        condition: Tensor | None = None,
        steps: int = 12,
        sigma_min: float = 0.4,
        restore_from: float = 0.0,
    ) -> Tensor:
        """The initial noise (N, C, H, W) of images (N, C, H, W), see `process.initial_noise`.

        From levels below `sigma_min`, rounding to 8 bits, clipping and compression would become most of the noise.
        """
        denoise = denoiser(self, self.averaged, encode(self, None if condition is None else condition.to(self.device)))
        sigmas = karras(steps, sigma_min, self.sampling.sigma_max)[:-1].flip(0)
        return process.initial_noise(denoise, images.to(self.device), sigmas, restore_from)

    @torch.no_grad()
    def forward_process(self, images: Tensor, seeds: Sequence[int], num_levels: int) -> Tensor:
        """Images with more and more noise: (num_levels, N, C, H, W), see `process.forward_process`."""
        return process.forward_process(images.to(self.device), seeded_normal(seeds, self.image_shape, self.device), num_levels)

    @torch.no_grad()
    def reverse_trajectory(self, seeds: Sequence[int], condition: Tensor | None = None, **settings: Any) -> Tensor:
        """The noisy images at each evaluation of the network, then the samples: (K, N, C, H, W), each about within [-1, 1]."""
        passed: list[Tensor] = []
        images = self.sample(
            seeds, condition, callback=lambda x, sigma: passed.append(process.normalise_brightness(x, sigma)), **settings
        )
        return torch.stack([*(x[: len(seeds)] for x in passed), images])


def encode(model: Diffusion, labels: Tensor | None) -> Tensor | None:
    """The condition of the network, see `encode_labels`; None for an unconditional model or no labels."""
    return encode_labels(labels, model.num_classes) if model.conditional and labels is not None else None


def denoiser(model: Diffusion, network: Network, condition: Tensor | None, conditioning_image: Tensor | None = None) -> Denoise:
    """D(x; sigma) of a model with one of its networks; a model with conditioning images gets zeros if there is none."""

    def wrapped(x: Tensor, sigma: Tensor) -> Tensor:
        is_null = conditioning_image is None and model.conditioning_image is not None
        image = null_conditioning_image(x) if is_null else conditioning_image
        return denoise(network, model.preconditioning, x, sigma, condition, image)

    return wrapped


def evaluation_loss(model: Diffusion, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
    """Mean denoising loss of the averaged network on a batch; its noise depends on `batch_idx` only."""
    x_0, labels = batch
    generator = torch.Generator().manual_seed(batch_idx)
    u = (torch.arange(len(x_0)) + torch.rand(len(x_0), generator=generator)) / len(x_0)
    n = torch.randn(x_0.shape, generator=generator).to(x_0)
    image = None if model.conditioning_image is None else model.conditioning_image(x_0)
    sigma = model.noise(u.clamp(1e-6, 1 - 1e-6).to(x_0))
    weight = model.weighting(sigma, model.preconditioning(sigma))
    return denoising_loss(denoiser(model, model.averaged, encode(model, labels), image), x_0, sigma, n, weight).mean()
