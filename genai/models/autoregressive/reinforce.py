"""Fine-tuning of a text model with a reward: REINFORCE on its own samples, with a KL penalty to the start."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax
from torchmetrics import MeanMetric

from genai.errors import UserError, check_at_least
from genai.models.autoregressive.network_model import TokenNetworkModel
from genai.models.autoregressive.rewards import TextReward
from genai.models.policy_gradient import (
    SampledTokens,
    check_rewards,
    group_advantages,
    kl_of_tokens,
    reinforce_loss,
    token_mean,
)
from genai.networks.transformer import Cache


class Reinforce(TokenNetworkModel):
    """REINFORCE (Williams 1992) with a baseline for each prompt, on the model's own samples.

    The prompts are the first tokens of the training windows. Each has `group_size` completions, sampled at temperature 1; the
    advantage of a completion is its reward less the mean of its group, without division by the standard deviation. The loss is
    a mean over all new tokens (Yu et al. 2025, arXiv:2503.14476, section 3.3), so that a long completion counts as many times
    as it has tokens. There is one step on each batch of samples, so there is no ratio to clip.

    It begins with the weights of another run, `--init_from RUN`, and keeps a frozen copy of them, `reference`.

    Args:
        vocab_size: number of tokens, linked from the data.
        context_length: of the training windows, linked from the data.
        reward: of prompts and their completions: a class of rewards.py or of your own, or the import path of a function.
        prompt_tokens: tokens of a prompt, without the end-of-document token at the start of a document.
        new_tokens: the most tokens of a completion; it ends at the end of a document before that.
        group_size: completions of a prompt, at least 2.
        kl_weight: of the KL divergence to the reference model, in rewards per nat; 0 for none.
        options: of `TokenNetworkModel`.

    Raises:
        UserError: a number is out of range, or the prompt and the completion are longer than the context.
    """

    requires_init_from = True
    verbs_with_reward = ("fit", "validate", "test")
    val_metrics = ("loss", "bits_per_byte", "reward", "reference_reward", "kl", "negative_reward")

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        reward: TextReward,
        prompt_tokens: int,
        new_tokens: int,
        group_size: int = 16,
        kl_weight: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(vocab_size, context_length, **options)
        check_at_least("prompt_tokens", prompt_tokens, 1)
        check_at_least("new_tokens", new_tokens, 1)
        check_at_least("group_size", group_size, 2)
        check_at_least("kl_weight", kl_weight, 0)
        if prompt_tokens + new_tokens > context_length:
            raise UserError(
                f"{prompt_tokens} prompt_tokens and {new_tokens} new_tokens exceed the context length {context_length}: "
                "use fewer, or a longer data.init_args.context_length"
            )
        self.reward = reward
        self.prompt_tokens = prompt_tokens
        self.new_tokens = new_tokens
        self.group_size = group_size
        self.kl_weight = kl_weight
        self.reference: nn.Module = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.means = nn.ModuleDict({name: MeanMetric() for name in ("reward", "reference_reward", "kl")})

    def initialise_from(self, state: Mapping[str, Tensor]) -> None:
        super().initialise_from(state)
        self.reference.load_state_dict(state)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        prompts = self.prompts_of(batch).repeat_interleave(self.group_size, dim=0)  # (N G, P)
        sampled = sample_completions(self.network, prompts, self.new_tokens, self.end_token)
        rewards = self.rewards_of(sampled)  # (N G,)
        advantages = group_advantages(rewards, self.group_size)
        log_p = log_softmax(self.network(sampled.tokens[:, :-1]).float(), dim=-1)  # (N G, P + C, V)
        with torch.no_grad():
            log_p_reference = log_softmax(self.reference(sampled.tokens[:, :-1]).float(), dim=-1)
        kl = kl_of_tokens(log_p, log_p_reference)
        loss = reinforce_loss(log_p, sampled, advantages) + self.kl_weight * token_mean(kl, sampled.is_new)
        self.step_log.record(
            {
                "train/loss": loss,
                "train/reward": rewards.mean(),
                "train/kl": (kl * sampled.is_new).sum(dim=1).mean(),
                "train/length": sampled.is_new.sum(dim=1).float().mean(),
            },
            prog_bar=True,
        )
        self.count_images(int(sampled.is_new.numel()))
        return loss

    def rewards_of(self, sampled: SampledTokens) -> Tensor:
        """The reward of each completion: (N,) float32."""
        text = self.trainer.datamodule.tokenizer.text  # type: ignore[attr-defined]
        prompts = [text(row[: self.prompt_tokens + 1]) for row in sampled.tokens.tolist()]
        completions = [text(row[is_new].tolist()) for row, is_new in zip(sampled.tokens, sampled.is_new, strict=True)]
        rewards = torch.as_tensor(self.reward(prompts, completions), dtype=torch.float32)
        return check_rewards(rewards, len(prompts), "completions").to(sampled.tokens.device)

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Besides the likelihood: the rewards of the model and the reference model, and the KL divergence."""
        super().validation_step(batch, batch_idx)
        prompts = self.prompts_of(batch)
        for name, network in (("reward", self.averaged_network), ("reference_reward", self.reference)):
            generator = torch.Generator(prompts.device).manual_seed(batch_idx)
            sampled = sample_completions(network, prompts, self.new_tokens, self.end_token, generator)
            self.means[name].update(self.rewards_of(sampled))  # type: ignore[operator]
            if name == "reward":
                log_p, log_p_reference = (
                    log_softmax(n(sampled.tokens[:, :-1]).float(), dim=-1) for n in (network, self.reference)
                )
                self.means["kl"].update((kl_of_tokens(log_p, log_p_reference) * sampled.is_new).sum(dim=1))  # type: ignore[operator]

    test_step = validation_step

    def log_sums(self, split: str) -> None:
        """Log the means of rewards and KL too; SPLIT/negative_reward is minus the reward, for `best_metric`."""
        super().log_sums(split)
        values = {name: mean.compute() for name, mean in self.means.items()}  # type: ignore[operator]
        values["negative_reward"] = -values["reward"]
        self.log_dict({f"{split}/{name}": value for name, value in values.items()}, prog_bar=True)
        for mean in self.means.values():
            mean.reset()  # type: ignore[operator]

    def prompts_of(self, batch: Sequence[Tensor]) -> Tensor:
        """The first tokens of each window: (N, 1 + prompt_tokens); UserError if a document is shorter."""
        prompts = batch[0][:, : self.prompt_tokens + 1]
        end = self.end_token if self.trainer.datamodule.by_document else None  # type: ignore[attr-defined]
        if bool((prompts < 0).any()) or (end is not None and bool((prompts[:, 1:] == end).any())):
            raise UserError(f"a document is shorter than {self.prompt_tokens} prompt_tokens: use fewer (model.init_args)")
        return prompts

    @property
    def end_token(self) -> int | None:
        """The token at the end of a document; None where there is none."""
        end: int | None = self.trainer.datamodule.tokenizer.end  # type: ignore[attr-defined]
        return end


@torch.no_grad()
def sample_completions(
    network: nn.Module, prompts: Tensor, num: int, end: int | None, generator: torch.Generator | None = None
) -> SampledTokens:
    """Continue prompts (N, P) by `num` tokens at temperature 1: (N, P + num); what follows the token `end` is not new text."""
    cache, rows, is_open = Cache(), [prompts], torch.ones(len(prompts), dtype=torch.bool, device=prompts.device)
    is_new = [torch.zeros_like(prompts, dtype=torch.bool)]
    for _ in range(num):
        p = network(rows[-1], cache=cache)[:, -1].float().softmax(dim=-1)
        rows.append(torch.multinomial(p, 1, generator=generator))  # (N, 1)
        is_new.append(is_open[:, None])
        if end is not None:
            is_open = is_open & (rows[-1][:, 0] != end)
    return SampledTokens(torch.cat(rows, dim=1), torch.cat(is_new, dim=1))
