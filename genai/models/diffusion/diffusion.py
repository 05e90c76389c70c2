"""Diffusion and rectified flow: one LightningModule for every network, preconditioning, condition and sampler."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from genai.errors import UserError
from genai.models.base import ImageModel, NetworkFactory, Shape
from genai.models.conditions import drop_condition, encode_labels
from genai.models.diffusion import editing
from genai.models.diffusion.conditioning_image import ConditioningImage, Downsampled, Masked, given
from genai.models.diffusion.consistency import Consistency
from genai.models.diffusion.guidance import EVERYWHERE, Interval, guided
from genai.models.diffusion.likelihood import LEVELS_PER_UNIT, bits_per_dim, log_density
from genai.models.diffusion.noise import LogNormal, NoiseDistribution, stratified
from genai.models.diffusion.preconditioning import EDM, Preconditioning, rows
from genai.models.diffusion.samplers import SAMPLERS, Denoise
from genai.models.diffusion.sigmas import SCHEDULES, karras
from genai.models.diffusion.weighting import NetworkOutput, Weighting
from genai.models.ema import Averaged, PowerAveraged
from genai.models.optimization import build_optimizer
from genai.models.schedules import Cosine
from genai.models.seeds import SeededRandom, seeded_normal

ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3, "betas": [0.9, 0.99]}}
Network = Callable[..., Tensor]
DROWNED = 10.0  # a noise level at which no eye finds the image


@dataclass(frozen=True)
class Sampling:
    """How images are drawn.

    Args:
        sampler: one of SAMPLERS: euler, heun, ddpm, ddim, dpmpp, unipc, adaptive, consistency.
        steps: noise levels passed; evaluations of the network are as many, nearly twice for heun.
        schedule: one of SCHEDULES: karras, linear, exponential, cosine, flow.
        sigma_min: last level but zero.
        sigma_max: first level.
        guidance_scale: of classifier-free guidance, or of autoguidance with `guiding_model`; 1 is none.
        guidance_interval: lowest and highest sigma that is guided.
        churn: noise added and removed again by heun.
        eta: share of new noise in ddim.
        bfloat16: let the network compute in bfloat16 (autocast), about twice as fast; the steps stay in float32. Left out on
            an x86 processor without instructions for it, where it would be many times slower.
    """

    sampler: str = "dpmpp"
    steps: int = 10
    schedule: str = "karras"
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    guidance_scale: float = 1.0
    guidance_interval: Interval = EVERYWHERE
    churn: float = 0.0
    eta: float = 0.0
    bfloat16: bool = False

    def __post_init__(self) -> None:
        for value, known, what in ((self.sampler, SAMPLERS, "sampler"), (self.schedule, SCHEDULES, "schedule")):
            if value not in known:
                raise UserError(f"there is no {what} {value!r}: choose from {', '.join(known)}")
        if self.steps < 1:
            raise UserError(f"{self.steps} steps draw nothing: use 1 or more")

    def sigmas(self) -> Tensor:
        """The levels: (steps + 1,), the last one 0."""
        return SCHEDULES[self.schedule](self.steps, self.sigma_min, self.sigma_max)

    def solve(self, denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Callable[[], Tensor]) -> Tensor:
        """Run the sampler."""
        options: dict[str, dict[str, Any]] = {"heun": {"churn": self.churn}, "ddim": {"eta": self.eta}}
        return SAMPLERS[self.sampler](denoise, x, sigmas, noise, **options.get(self.sampler, {}))


class Diffusion(ImageModel):
    """A denoiser, trained on images with noise of all levels; sampling goes from noise to images in steps.

    Args:
        image_shape: (C, H, W), linked from the data.
        num_classes: width of the condition (classes, attributes, words of the vocabulary), linked from the data.
        network: factory of the network (x, c_noise, condition, base) -> image.
        optimizer: any torch optimiser.
        preconditioning: what the network sees and predicts; EDM's unless another is given, Velocity for rectified flow.
        noise: distribution of the noise levels in training.
        weighting: of the squared error at each noise level.
        consistency: tune a trained network to few steps, in the place of denoising; `weighting` is then unused.
        conditional: show the network the label of the data; otherwise the labels are unused.
        condition_dropout: share of the labels left out in training, so that guidance has an unconditional model.
        base: show the network an image made of the clean one; None for none.
        conditioning_dropout: share of the base images left out in training.
        sampling: how images are drawn unless `sample` is told otherwise.
        max_grad_norm: longer gradients are shortened to this; None for no limit.
        lr_schedule: factor on the learning rate, a function of the images seen.
        ema_halflife_kimg: half-life of the averaged network, in thousands of images.
        power_stds: widths of further averages, as shares of the training, of which `genai average` makes one of any width
            afterwards; two are enough, such as 0.05 and 0.1.
        options: of `Model`.
    """

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
        base: ConditioningImage | None = None,
        conditioning_dropout: float = 0.1,
        sampling: Sampling | None = None,
        max_grad_norm: float | None = 1.0,
        lr_schedule: Cosine | None = None,
        ema_halflife_kimg: float = 50.0,
        power_stds: Sequence[float] = (),
        **options: Any,
    ) -> None:
        super().__init__(image_shape, num_classes, **options)
        self.automatic_optimization = False
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
        self.base = base
        self.conditioning_dropout = conditioning_dropout
        self.sampling = sampling or Sampling()
        self.max_grad_norm = max_grad_norm
        self.lr_schedule = lr_schedule
        self.check_conditioning_image()

    def check_conditioning_image(self) -> None:
        """Raise UserError where the network has no place for the base image, or one too many."""
        wanted = self.image_shape[0] + 1 if self.base else 0
        has = getattr(self.network, "conditioning_channels", 0)
        if has != wanted:
            raise UserError(
                f"the network's conditioning_channels is {has} and the model's base image has {wanted} channels: "
                f"set network.init_args.conditioning_channels to {wanted}"
            )

    def initialise_from(self, state: Mapping[str, Tensor]) -> None:
        """Begin with the averaged weights of another run, as its `export_state` gives them."""
        for network in (self.network, self.averaged.network):
            network.load_state_dict(state)

    def configure_optimizers(self) -> Optimizer:
        return build_optimizer(self.optimizer, self.network)

    # -- training --------------------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        optimizer: Any = self.optimizers()
        self.set_learning_rates([optimizer], self.lr_schedule)
        condition, base = (
            drop_condition(self.condition(labels), self.condition_dropout),
            self.training_conditioning_image(images),
        )
        sigma = self.noise(stratified(len(images), self.device))
        n = torch.randn_like(images)
        loss = self.descend(optimizer, self.training_loss, images, sigma, n, condition, base)
        num_images = self.advance(len(images))
        for average in (self.averaged, *self.power_averages):
            average.update(self.network, num_images, self.images_seen)
        self.track({"train/loss": loss, "train/lr": optimizer.param_groups[0]["lr"]})

    def training_loss(self, x_0: Tensor, sigma: Tensor, n: Tensor, condition: Tensor | None, base: Tensor | None) -> Tensor:
        """What the network is trained on, of denoising or consistency: (N,), see `loss`."""
        if self.consistency is None:
            return self.loss(self.network, x_0, sigma, n, condition, base)
        denoise = partial(self.denoise, self.network, condition=condition, base=base)
        return self.consistency(denoise, x_0, sigma, n, self.images_seen)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.limit_gradients(optimizer, self.loss_now, self.max_grad_norm)

    def loss(
        self, network: Network, x_0: Tensor, sigma: Tensor, n: Tensor, condition: Tensor | None, base: Tensor | None
    ) -> Tensor:
        """lambda(sigma) times the squared error of the denoised image, mean over its pixels: (N,) (EDM, equation 8).

        Args:
            network: the one to train, or its average.
            x_0: clean images (N, C, H, W).
            sigma: noise levels (N,).
            n: normal noise (N, C, H, W).
            condition: what the network is told, see `condition`.
            base: what it is shown, (N, C + 1, H, W).
        """
        denoised = self.denoise(network, x_0 + rows(sigma) * n, sigma, condition, base)
        weight = self.weighting(sigma, self.preconditioning(sigma))
        return weight * (denoised - x_0).square().mean(dim=(1, 2, 3))

    def denoise(
        self, network: Network, x: Tensor, sigma: Tensor, condition: Tensor | None = None, base: Tensor | None = None
    ) -> Tensor:
        """D(x; sigma), float32 whatever the network computes in: x (N, C, H, W), sigma (N,) -> (N, C, H, W)."""
        scales = self.preconditioning(sigma)
        output = network(rows(scales.c_in) * x, scales.c_noise, condition, base).float()
        return rows(scales.c_skip) * x + rows(scales.c_out) * output

    def condition(self, labels: Tensor | None) -> Tensor | None:
        """What the network is told of `labels`, see `encode_labels`; None for an unconditional model."""
        return encode_labels(labels, self.num_classes) if self.conditional and labels is not None else None

    def training_conditioning_image(self, images: Tensor) -> Tensor | None:
        """The base images of a batch, some left out."""
        return None if self.base is None else drop_condition(self.base(images), self.conditioning_dropout)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log_loss("val", batch, batch_idx)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log_loss("test", batch, batch_idx)

    def log_loss(self, stage: str, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the loss of the averaged network, with the same noise at each call."""
        images, labels = batch
        generator = torch.Generator().manual_seed(batch_idx)
        u = (torch.arange(len(images)) + torch.rand(len(images), generator=generator)) / len(images)
        n = torch.randn(images.shape, generator=generator).to(images)
        base = None if self.base is None else self.base(images)
        loss = self.loss(self.averaged, images, self.noise(u.clamp(1e-6, 1 - 1e-6).to(images)), n, self.condition(labels), base)
        self.log(f"{stage}/loss", loss.mean(), sync_dist=True, batch_size=len(images))

    # -- sampling --------------------------------------------------------------------------------------------------------

    def generate(
        self,
        seeds: Sequence[int],
        condition: Tensor | None,
        image: Tensor | None = None,
        strength: float = 1.0,
        mask: Tensor | None = None,
        small: Tensor | None = None,
        base: Tensor | None = None,
        guiding_model: "Diffusion | None" = None,
        watch: Callable[[Tensor, Tensor], Any] | None = None,
        **settings: Any,
    ) -> Tensor:
        """Draw one image per seed: (len(seeds), C, H, W) in [-1, 1].

        Args:
            seeds: of the noise.
            condition: classes, attributes or words; see `condition`.
            image: (N, C, H, W) to start from, or whose unmasked pixels are kept.
            strength: share of the noise levels passed from `image`, 0 to 1.
            mask: (N, 1, H, W), 1 where `image` is to be filled in.
            small: (N, C, H / f, W / f), what the images averaged over f x f pixels are to be.
            base: (N, C + 1, H, W), what the network is shown; None shows nothing.
            guiding_model: a model to be guided away from, in the place of the same one without a condition.
            watch: called with (x, sigma) before each evaluation.
            settings: of `Sampling`, in the place of the model's own.
        """
        plan = replace(self.sampling, **settings)
        denoise = self.guided_denoiser(len(seeds), condition, base, guiding_model, plan)
        if small is not None:
            denoise = editing.consistent(denoise, small, self.image_shape[-1] // small.shape[-1])
        if mask is not None and image is not None:
            denoise = editing.known_pixels(denoise, image, mask)
        denoise = denoise if watch is None else editing.watched(denoise, watch)
        sigmas = editing.start_level(plan.sigmas(), strength)
        denoise = editing.in_bfloat16(denoise) if plan.bfloat16 else denoise
        if len(sigmas) == 1 and image is not None:
            return image
        noise = partial(SeededRandom(seeds, self.device).normal, self.image_shape)
        x = float(sigmas[0]) * noise()
        if image is not None and mask is None:
            x = x + image
        return plan.solve(denoise, x, sigmas, noise).clamp(-1, 1)

    def guided_denoiser(
        self, num: int, condition: Tensor | None, base: Tensor | None, guiding_model: "Diffusion | None", plan: Sampling
    ) -> Denoise:
        """The averaged network as a function of (x, sigma) for `num` images, guided as `plan` says."""
        told = self.condition(condition)
        shown = base if base is not None or self.base is None else self.nothing_shown(num)
        denoise = partial(self.denoise, self.averaged, condition=told, base=shown)
        if guiding_model is not None:
            other = partial(
                guiding_model.denoise, guiding_model.averaged, condition=guiding_model.condition(condition), base=shown
            )
        else:
            other = partial(self.denoise, self.averaged, condition=None if told is None else torch.zeros_like(told), base=shown)
        return guided(denoise, other, plan.guidance_scale, plan.guidance_interval)

    def nothing_shown(self, num: int) -> Tensor:
        """Base images that say nothing: (num, C + 1, H, W) of zeros."""
        channels, *sides = self.image_shape
        return torch.zeros(num, channels + 1, *sides, device=self.device)

    # -- editing ---------------------------------------------------------------------------------------------------------

    def vary(
        self, images: Tensor, seeds: Sequence[int], strength: float, condition: Tensor | None = None, **settings: Any
    ) -> Tensor:
        """Add noise and take it away again (SDEdit, Meng et al. 2021, arXiv:2108.01073): (N, C, H, W).

        Args:
            images: (N, C, H, W) in [-1, 1].
            seeds: one for each image.
            strength: share of the noise levels passed; 0 returns the images, 1 starts from noise.
            condition: what to draw in their place; see `sample`.
            settings: of `Sampling`.
        """
        return self.sample(seeds, condition, image=images, strength=strength, **settings)

    def restore(
        self, images: Tensor, mask: Tensor, seeds: Sequence[int], condition: Tensor | None = None, **settings: Any
    ) -> Tensor:
        """Fill in where `mask` (N, 1, H, W) is 1; the other pixels come out as they are: (N, C, H, W).

        A model trained for it (`base`: Masked) is shown the other pixels; any is held to them at every step.
        """
        if isinstance(self.base, Masked):
            known = 1 - mask.to(images)
            settings["base"] = given(images * known, known)
        return self.sample(seeds, condition, image=images, mask=mask, **settings)

    def upscale(self, small: Tensor, seeds: Sequence[int], condition: Tensor | None = None, **settings: Any) -> Tensor:
        """Images whose squares of pixels average to those of `small` (N, C, H / f, W / f): (N, C, H, W).

        A model trained for it (`base`: Downsampled) is shown the small image; any other is held to it at every step.

        Raises:
            UserError: the model was trained to upscale by other factors.
        """
        factor = self.image_shape[-1] // small.shape[-1]
        if isinstance(self.base, Downsampled):
            if factor not in self.base.factors:
                raise UserError(f"this model upscales by {' or '.join(map(str, self.base.factors))}, not by {factor}")
            shown = editing.enlarge(small, factor)
            return self.sample(seeds, condition, base=given(shown, torch.ones_like(shown[:, :1])), **settings)
        return self.sample(seeds, condition, small=small, **settings)

    # -- likelihood ------------------------------------------------------------------------------------------------------

    def bits_per_dim(self, images: Tensor, seeds: Sequence[int], condition: Tensor | None = None, steps: int = 50) -> Tensor:
        """Bits per dimension of images as uint8, by the probability-flow ODE: (N,) float64.

        Args:
            images: (N, C, H, W) in [-1, 1], of 256 values each.
            seeds: of the dequantising noise and of the probe of the divergence, one for each image.
            condition: what the images are said to be; see `condition`.
            steps: noise levels of Heun's method; two evaluations and their gradients each.
        """
        random = SeededRandom(seeds, self.device)
        dequantised = images.to(self.device) + (random.uniform(self.image_shape).to(images.dtype) - 0.5) / LEVELS_PER_UNIT
        sigmas = karras(steps, self.sampling.sigma_min, self.sampling.sigma_max)[:-1].flip(0)
        told = self.condition(None if condition is None else condition.to(self.device))
        shown = None if self.base is None else self.nothing_shown(len(images))
        denoise = partial(self.denoise, self.averaged, condition=told, base=shown)
        return bits_per_dim(
            log_density(denoise, dequantised, sigmas, random.normal(self.image_shape).sign()), images[0].numel()
        )

    # -- the process -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def forward_process(self, images: Tensor, seeds: Sequence[int], num_levels: int) -> Tensor:
        """Images with more and more noise, until nothing of them is seen: (num_levels, N, C, H, W), see `in_sight`."""
        sigmas = karras(num_levels - 1, 0.05, DROWNED).flip(0).to(self.device, torch.float32)[:, None].expand(-1, len(images))
        n = seeded_normal(seeds, self.image_shape, self.device)
        return torch.stack([in_sight(images.to(self.device) + rows(sigma) * n, sigma) for sigma in sigmas])

    @torch.no_grad()
    def reverse_trajectory(self, seeds: Sequence[int], condition: Tensor | None = None, **settings: Any) -> Tensor:
        """The noisy images at each evaluation of the network, and the result: (K, N, C, H, W), see `in_sight`."""
        passed: list[Tensor] = []
        images = self.sample(seeds, condition, watch=lambda x, sigma: passed.append(in_sight(x, sigma)), **settings)
        return torch.stack([*(x[: len(seeds)] for x in passed), images])


def in_sight(x: Tensor, sigma: Tensor) -> Tensor:
    """x (N, C, H, W) scaled so that image and noise (N,) together are about as bright as an image: x / sqrt(1 + sigma^2)."""
    return x / rows(1 + sigma**2).sqrt()
