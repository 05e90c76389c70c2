"""Training of a denoiser: the network, its preconditioning, the noise of training and the loss."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from genai.errors import UserError
from genai.models.base import ImageModel, NetworkFactory, Shape
from genai.models.conditions import check_labels, drop_condition
from genai.models.diffusion.conditioning_image import ConditioningImage, null_conditioning_image
from genai.models.diffusion.consistency import Consistency
from genai.models.diffusion.noise import LogNormal, NoiseDistribution, stratified_uniform
from genai.models.diffusion.preconditioning import EDM, Denoise, Network, Preconditioning, precondition
from genai.models.diffusion.sampling import Sampling
from genai.models.diffusion.weighting import NetworkOutput, Weighting, denoising_loss
from genai.models.ema import Averaged, PowerAveraged, WarmStart
from genai.models.optimization import optimizer_and_schedule
from genai.models.schedules import Cosine

ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3, "betas": [0.9, 0.99]}}


class DenoisingModel(ImageModel, WarmStart):
    """A denoiser, trained on images with noise of all levels: the training of `Diffusion`.

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

    def trained_network(self) -> nn.Module:
        return self.network

    def denoiser(self, network: Network, condition: Tensor | None, conditioning_image: Tensor | None = None) -> Denoise:
        """D(x; sigma) with one of the model's networks; a model with conditioning images gets zeros if there is none."""

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            is_null = conditioning_image is None and self.conditioning_image is not None
            image = null_conditioning_image(x) if is_null else conditioning_image
            return precondition(network, self.preconditioning, x, sigma, condition, image)

        return denoise

    # -- training --------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        return optimizer_and_schedule(self.optimizer, self.network, self.lr_schedule, self)

    def averages(self) -> Sequence[tuple[Averaged | PowerAveraged, nn.Module]]:
        return [(average, self.network) for average in (self.averaged, *self.power_averages)]  # type: ignore[misc]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x_0, labels = batch  # (N, C, H, W), (N,) or (N, K)
        condition = drop_condition(self.encode_condition(labels), self.condition_dropout)
        image = None if self.conditioning_image is None else self.conditioning_image(x_0)
        image = drop_condition(image, self.conditioning_dropout)
        sigma = self.noise(stratified_uniform(len(x_0), self.device))  # (N,)
        n = torch.randn_like(x_0)
        denoise = self.denoiser(self.network, condition, image)
        if self.consistency is None:
            loss = denoising_loss(denoise, x_0, sigma, n, self.weighting(sigma, self.preconditioning(sigma))).mean()
        else:
            loss = self.consistency(denoise, x_0, sigma, n, self.images_seen).mean()
        self.step_log.record({"train/loss": loss}, prog_bar=True)
        self.count_images(len(x_0))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        split = "test" if self.trainer.testing else "val"
        self.log(f"{split}/loss", self.evaluation_loss(batch, batch_idx), sync_dist=True, batch_size=len(batch[0]))

    test_step = validation_step

    def evaluation_loss(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean denoising loss of the averaged network on a batch; its noise depends on `batch_idx` only."""
        x_0, labels = batch
        generator = torch.Generator().manual_seed(batch_idx)
        u = stratified_uniform(len(x_0), generator=generator, shuffle=False)
        n = torch.randn(x_0.shape, generator=generator).to(x_0)
        image = None
        if self.conditioning_image is not None:
            with torch.random.fork_rng([x_0.device] if x_0.is_cuda else []):
                torch.manual_seed(batch_idx)
                image = self.conditioning_image(x_0)
        sigma = self.noise(u.to(x_0))
        weight = self.weighting(sigma, self.preconditioning(sigma))
        denoise = self.denoiser(self.averaged, self.encode_condition(labels), image)
        return denoising_loss(denoise, x_0, sigma, n, weight).mean()
