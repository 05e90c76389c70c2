"""Fine-tuning of a prior of codes with a reward of the images: REINFORCE on the model's own samples."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from genai.errors import check_at_least
from genai.models.base import Shape
from genai.models.ema import WarmStart
from genai.models.image_rewards import ImageReward
from genai.models.optimization import optimizer_and_schedule
from genai.models.policy_gradient import (
    SampledTokens,
    check_rewards,
    group_advantages,
    kl_of_tokens,
    reinforce_loss,
    token_mean,
)
from genai.models.schedules import Cosine
from genai.models.vqvae.code_model import CodeModel
from genai.models.vqvae.code_sampling import CodeSampling
from genai.models.vqvae.prior import CodePrior

ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 3e-4, "betas": [0.9, 0.99]}}


class CodeReinforce(CodeModel, WarmStart):
    """REINFORCE (Williams 1992) on the codes of the prior, with a baseline for each condition; the tokenizer stays as it is.

    Each label of a batch has `group_size` samples at temperature 1; the advantage of a sample is the reward of its image less
    the mean of its group. There is one step on each batch of samples, so there is no ratio to clip.

    It begins with the weights of a run with the same tokenizer and prior, `--init_from RUN`, and keeps its prior as `start`.

    Args:
        image_shape: (C, H, W), linked from the data.
        num_classes: width of the condition (classes, attributes, words of the vocabulary), linked from the data.
        reward: of images and their condition: a class of image_rewards.py or of your own, or the import path of a function.
        group_size: samples of a label, at least 2.
        kl_weight: of the KL divergence to the reference model, in rewards per nat of a code; 0 for none.
        optimizer: any torch optimiser.
        lr_schedule: factor on the learning rate, a function of the images sampled.
        options: of `CodeModel`.

    Raises:
        UserError: a number is out of range.
    """

    requires_init_from = True
    verbs_with_reward = ("fit", "validate")
    val_metrics = ("reward", "reference_reward", "kl", "negative_reward")

    def __init__(
        self,
        image_shape: Shape,
        num_classes: int,
        reward: ImageReward,
        group_size: int = 8,
        kl_weight: float = 0.0,
        optimizer: OptimizerCallable = ADAM,  # type: ignore[assignment]
        lr_schedule: Cosine | None = None,
        **options: Any,
    ) -> None:
        super().__init__(image_shape, num_classes, **options)
        check_at_least("group_size", group_size, 2)
        check_at_least("kl_weight", kl_weight, 0)
        self.reward = reward
        self.group_size = group_size
        self.kl_weight = kl_weight
        self.optimizer = optimizer
        self.lr_schedule = lr_schedule
        self.tokenizer.requires_grad_(False)
        self.reference: CodePrior = copy.deepcopy(self.prior).eval().requires_grad_(False)

    def configure_optimizers(self) -> Any:
        return optimizer_and_schedule(self.optimizer, self.prior, self.lr_schedule, self)

    def initialise_from(self, state: Mapping[str, Tensor]) -> None:
        super().initialise_from(state)
        self.reference.load_state_dict(self.prior.state_dict())

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        labels = batch[1].repeat_interleave(self.group_size, dim=0)  # (N G, ...)
        u = torch.rand(len(labels), math.prod(self.prior.grid), device=self.device)
        codes = self.sample_codes(self.prior, u, labels)  # (N G, h, w)
        rewards = self.rewards_of(codes, labels)
        log_p, log_p_reference = self.log_probs(self.prior, codes, labels), self.log_probs(self.reference, codes, labels)
        sampled = SampledTokens(codes.flatten(1), torch.ones_like(codes.flatten(1), dtype=torch.bool))
        kl = kl_of_tokens(log_p, log_p_reference)  # (N G, h w)
        loss = reinforce_loss(log_p, sampled, group_advantages(rewards, self.group_size))
        loss = loss + self.kl_weight * token_mean(kl, sampled.is_new)
        metrics = {"loss": loss, "reward": rewards.mean(), "kl": kl.sum(dim=1).mean()}
        self.step_log.record({f"train/{name}": value for name, value in metrics.items()}, prog_bar=True)
        self.count_images(len(codes))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the reward of samples, that of the reference model, and the KL divergence to it in nats per image."""
        labels = batch[1]
        generator = torch.Generator().manual_seed(batch_idx)
        u = torch.rand(len(labels), math.prod(self.prior.grid), generator=generator).to(self.device)
        codes = self.sample_codes(self.averaged_network.prior, u, labels)
        log_p, log_p_reference = (
            self.log_probs(self.averaged_network.prior, codes, labels),
            self.log_probs(self.reference, codes, labels),
        )
        reward = self.rewards_of(codes, labels).mean()
        reference_reward = self.rewards_of(self.sample_codes(self.reference, u, labels), labels).mean()
        kl = kl_of_tokens(log_p, log_p_reference).sum(dim=1).mean()
        metrics = {"reward": reward, "reference_reward": reference_reward, "kl": kl, "negative_reward": -reward}
        self.log_dict({f"val/{name}": value for name, value in metrics.items()}, batch_size=len(labels), sync_dist=True)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Nothing to compute: the samples are scored by a network that gave no reward."""

    @torch.no_grad()
    def sample_codes(self, prior: CodePrior, u: Tensor, labels: Tensor) -> Tensor:
        """Sample codes at temperature 1 from uniform numbers u (N, h w): (N, h, w)."""
        return prior.sample(u, self.encode_condition(labels), CodeSampling())

    @torch.no_grad()
    def rewards_of(self, codes: Tensor, labels: Tensor) -> Tensor:
        """The reward of the image of each code (N, h, w): (N,) float32."""
        images = self.averaged_network.tokenizer.decode(codes)
        return check_rewards(self.reward(images, labels if self.conditional else None), len(codes))

    def log_probs(self, prior: CodePrior, codes: Tensor, labels: Tensor) -> Tensor:
        """ln p of every code at each position of codes (N, h, w): (N, h w, K)."""
        network: nn.Module = prior.network
        return log_softmax(network(codes.flatten(1)[:, :-1], self.encode_condition(labels)).float(), dim=-1)
