"""Fine-tuning of a diffusion model with a reward: DiffusionNFT, a contrast of good and bad samples in the forward process."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from genai.errors import check_at_least
from genai.models.base import NetworkFactory, Shape
from genai.models.diffusion.diffusion import Diffusion
from genai.models.diffusion.noise import LogUniform, stratified_uniform
from genai.models.diffusion.preconditioning import Denoise, append_dims
from genai.models.image_rewards import ImageReward
from genai.models.policy_gradient import check_rewards


class DiffusionNFT(Diffusion):
    """DiffusionNFT (Zheng et al. 2025, arXiv:2509.16117): the model is trained on noise of its own samples, see `nft_loss`.

    Only the samples are needed, so any sampler works. They come from the averaged network, which is the paper's old policy:
    `ema_halflife_kimg` says how fast it follows. Each label of a batch has `group_size` samples.

    It begins with the weights of a run with the same network, `--init_from RUN`, and keeps a frozen copy of them, `reference`.

    Args:
        image_shape: (C, H, W), linked from the data.
        num_classes: width of the condition (classes, attributes, words of the vocabulary), linked from the data.
        network: factory of the network (x, c_noise, condition, conditioning_image) -> image.
        reward: of images and their condition: a class of image_rewards.py or of your own, or the import path of a function.
        group_size: samples of a label, at least 2.
        num_levels: noise levels that a sample is trained at in a step.
        beta: guidance strength of the paper, above 0: a lower value takes longer steps.
        kl_weight: weight of the squared distance to the reference model, as a multiple of that to the samples; 0 for none.
        options: of `Diffusion`. `consistency`, `condition_dropout` and the conditioning image are unused.

    Raises:
        UserError: a number is out of range.
    """

    requires_init_from = True
    verbs_with_reward = ("fit", "validate")
    val_metrics = ("loss", "reward", "reference_reward", "kl", "negative_reward")

    def __init__(
        self,
        image_shape: Shape,
        num_classes: int,
        network: NetworkFactory,
        reward: ImageReward,
        group_size: int = 8,
        num_levels: int = 4,
        beta: float = 1.0,
        kl_weight: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(image_shape, num_classes, network, **options)
        for name, value, least in (("group_size", group_size, 2), ("num_levels", num_levels, 1), ("kl_weight", kl_weight, 0)):
            check_at_least(name, value, least)
        check_at_least("beta", beta, 1e-3)
        self.reward = reward
        self.group_size = group_size
        self.num_levels = num_levels
        self.beta = beta
        self.kl_weight = kl_weight
        self.reference: nn.Module = copy.deepcopy(self.network).eval().requires_grad_(False)

    def initialise_from(self, state: Mapping[str, Tensor]) -> None:
        super().initialise_from(state)
        self.reference.load_state_dict(state)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        labels = batch[1].repeat_interleave(self.group_size, dim=0)  # (N G, ...)
        x_0 = self.samples_of(self.averaged, labels, torch.randint(2**62, (len(labels),)).tolist())  # (N G, C, H, W)
        rewards = self.rewards_of(x_0, labels)
        r = optimality(rewards, self.group_size).repeat(self.num_levels)  # (N G T,)
        x_0 = x_0.repeat(self.num_levels, 1, 1, 1)
        condition = self.encode_condition(labels.repeat(self.num_levels, *[1] * (labels.ndim - 1)))
        sigma = self.noise(stratified_uniform(len(x_0), self.device))
        x = x_0 + append_dims(sigma) * torch.randn_like(x_0)
        denoised = self.denoiser(self.network, condition)(x, sigma)
        with torch.no_grad():
            old, start = (self.denoiser(network, condition)(x, sigma) for network in (self.averaged, self.reference))
        weight = self.weighting(sigma, self.preconditioning(sigma))
        distance = weight * (denoised - start).square().mean(dim=(1, 2, 3))
        loss = (nft_loss(denoised, old, x_0, r, weight, self.beta) + self.kl_weight * distance).mean()
        metrics = {"loss": loss, "reward": rewards.mean(), "distance": distance.mean()}
        self.step_log.record({f"train/{name}": value for name, value in metrics.items()}, prog_bar=True)
        self.count_images(len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Besides the denoising loss: the rewards of the model and the reference model, and the KL divergence."""
        super().validation_step(batch, batch_idx)
        labels, seeds = batch[1], [batch_idx * 2**20 + i for i in range(len(batch[0]))]
        x_0 = self.samples_of(self.averaged, labels, seeds)
        reward = self.rewards_of(x_0, labels).mean()
        reference_reward = self.rewards_of(self.samples_of(self.reference, labels, seeds), labels).mean()
        generator = torch.Generator().manual_seed(batch_idx)
        n = torch.randn(x_0.shape, generator=generator).to(x_0)
        u = stratified_uniform(len(x_0), generator=generator, shuffle=False)
        condition = self.encode_condition(labels)
        denoise, start = (self.denoiser(network, condition) for network in (self.averaged, self.reference))
        kl = path_kl(denoise, start, x_0, n, u.to(x_0)).mean()
        metrics = {"reward": reward, "reference_reward": reference_reward, "kl": kl, "negative_reward": -reward}
        self.log_dict({f"val/{name}": value for name, value in metrics.items()}, batch_size=len(labels), sync_dist=True)

    def samples_of(self, network: nn.Module, labels: Tensor, seeds: list[int]) -> Tensor:
        """One sample of a network for each label and seed: (N, C, H, W) in [-1, 1]."""
        return self.sample(seeds, labels if self.conditional else None, network=network)

    def rewards_of(self, images: Tensor, labels: Tensor) -> Tensor:
        """The reward of each image: (N,) float32."""
        return check_rewards(self.reward(images, labels if self.conditional else None), len(images))


def nft_loss(denoised: Tensor, old: Tensor, x_0: Tensor, r: Tensor, weight: Tensor, beta: float) -> Tensor:
    """r |D+ - x_0|^2 + (1 - r) |D- - x_0|^2, weighted, mean over the pixels: (N,) (DiffusionNFT, section 3).

    D+ = (1 - beta) D_old + beta D and D- = (1 + beta) D_old - beta D, with the denoised image in the place that the velocity
    has in the paper: both are the same up to a factor that depends on the noise level. The minimum over D at a noisy image is
    D_old + 2 / beta E[r] (E[r x_0] / E[r] - D_old), where D_old = E[x_0] (its theorem of policy optimisation).

    Args:
        denoised: D, (N, C, H, W).
        old: D_old of the network that sampled, without gradient.
        x_0: the samples.
        r: their optimality (N,) in [0, 1].
        weight: (N,), see `Weighting`.
        beta: strength.
    """
    positive = ((1 - beta) * old + beta * denoised - x_0).square().mean(dim=(1, 2, 3))
    negative = ((1 + beta) * old - beta * denoised - x_0).square().mean(dim=(1, 2, 3))
    return weight * (r * positive + (1 - r) * negative)


def optimality(rewards: Tensor, group_size: int) -> Tensor:
    """r = 1/2 + 1/2 clip((reward - mean of its group) / Z, -1, 1) in [0, 1]: (N G,) -> (N G,) (DiffusionNFT, section 3).

    Z is the standard deviation of all advantages of the batch; r is 1/2 where all rewards of a group are equal.
    """
    groups = rewards.view(-1, group_size)
    advantages = groups - groups.mean(dim=1, keepdim=True)
    scale = advantages.square().mean().sqrt().clamp(min=1e-6)
    return (0.5 + 0.5 * (advantages / scale).clamp(-1, 1)).flatten()


def path_kl(denoise: Denoise, start: Denoise, x_0: Tensor, n: Tensor, u: Tensor) -> Tensor:
    """KL divergence of the paths of two reverse SDEs in nats, an estimate for each sample: (N,).

    It is the integral of E|D - D_start|^2 / sigma^3 over sigma, at noise of samples of the first (Song et al. 2021,
    arXiv:2101.09258, theorem 1), and bounds the KL divergence of the images from above. The noise levels are log-uniform.

    Args:
        denoise, start: D and D_start.
        x_0: samples of the first model, (N, C, H, W).
        n: standard normal noise (N, C, H, W).
        u: uniform numbers (N,) in (0, 1).
    """
    levels = LogUniform()
    sigma = levels(u)
    x = x_0 + append_dims(sigma) * n
    squares = (denoise(x, sigma) - start(x, sigma)).square().sum(dim=(1, 2, 3))
    return math.log(levels.sigma_max / levels.sigma_min) * squares / sigma**2
