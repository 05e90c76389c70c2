"""Diffusion and rectified flow: sampling, editing and likelihood of a denoiser, for every network, condition and sampler."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from genai.errors import UserError, check_at_least
from genai.models.capabilities import LikelihoodEstimate
from genai.models.diffusion import editing, process
from genai.models.diffusion.conditioning_image import Downsampled, Masked, with_known
from genai.models.diffusion.denoising_model import DenoisingModel
from genai.models.diffusion.guidance import guided
from genai.models.diffusion.likelihood import dequantise, log_density, log_prob_of_8_bits
from genai.models.diffusion.sigmas import karras
from genai.models.diffusion.weighting import denoising_loss
from genai.models.seeds import SeededRandom, seeded_normal


class Diffusion(DenoisingModel):
    """A denoiser, trained on images with noise of all levels. Sampling goes from noise to an image in steps.

    Its arguments, and how it is trained: `DenoisingModel`.
    """

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
            image: (N, C, H, W), the start of a variation; with `mask`, its pixels outside the mask are kept, and with
                `strength` below 1 it is the start too.
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
        encoded = self.encode_condition(condition)
        network = self.averaged if network is None else network
        denoise = self.denoiser(network, encoded, conditioning_image)
        if guiding_model is None:  # classifier-free guidance
            null_condition = None if encoded is None else torch.zeros_like(encoded)
            guide = self.denoiser(network, null_condition, conditioning_image)
        else:  # autoguidance
            guide = guiding_model.denoiser(
                guiding_model.averaged, guiding_model.encode_condition(condition), conditioning_image
            )
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
        if image is not None and (mask is None or strength < 1):
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
            steps: noise levels, at least 2; from each to the next is a step of Heun's method, of two evaluations of the network
                and its gradient.

        Raises:
            UserError: there are fewer than 2 steps.
        """
        check_at_least("steps", steps, 2)
        random = SeededRandom(seeds, self.device)
        x = dequantise(images.to(self.device), random.uniform(self.image_shape).to(images.dtype))
        probe = random.normal(self.image_shape).sign()
        sigmas = karras(steps, self.sampling.sigma_min, self.sampling.sigma_max)[:-1].flip(0)
        encoded = self.encode_condition(condition)
        densities = log_density(self.denoiser(self.averaged, encoded), x, sigmas, probe)
        num_dims = images[0].numel()
        kind = f"probability-flow ODE at {steps} noise levels and Hutchinson's trace estimate, dequantised 8-bit pixels"
        return LikelihoodEstimate.of_log_prob(log_prob_of_8_bits(densities, num_dims), num_dims, kind)

    @torch.no_grad()
    def denoising_errors(
        self, images: Tensor, seeds: Sequence[int], condition: Tensor | None = None, num_levels: int = 10
    ) -> Tensor:
        """Denoising loss of each image (N, C, H, W) with the averaged network, mean over levels of the training noise: (N,)."""
        random = SeededRandom(seeds, self.device)
        x_0, ones = images.to(self.device), torch.ones(len(images), device=self.device)
        denoise = self.denoiser(self.averaged, self.encode_condition(condition))
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

        From levels below `sigma_min`, rounding to 8 bits, clipping and compression would become most of the noise. `steps` are
        noise levels, at least 2.
        """
        check_at_least("steps", steps, 2)
        denoise = self.denoiser(self.averaged, self.encode_condition(condition))
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
