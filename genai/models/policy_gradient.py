"""REINFORCE on sequences of tokens that the model sampled itself: text, or the codes of images."""

from typing import NamedTuple

from torch import Tensor

from genai.errors import UserError


class SampledTokens(NamedTuple):
    """Sampled sequences.

    tokens: (N, L) int64; the first ones may be a prompt, and what follows the end of a document is not of the text.
    is_new: (N, L) bool, the sampled tokens up to the end of the document, which is among them.
    """

    tokens: Tensor
    is_new: Tensor


def group_advantages(rewards: Tensor, group_size: int) -> Tensor:
    """The reward less the mean of its group: (N G,) -> (N G,), groups one after another.

    There is no division by the standard deviation (Liu et al. 2025, arXiv:2503.20783, section 3.1).
    """
    groups = rewards.view(-1, group_size)
    return (groups - groups.mean(dim=1, keepdim=True)).flatten()


def reinforce_loss(log_p: Tensor, sampled: SampledTokens, advantages: Tensor) -> Tensor:
    """-sum of A_i ln p(y_it) over all new tokens, divided by their number (Williams 1992).

    Its gradient is that of TRL's loss types `bnpo` and `dapo` with one update for each batch of samples, where the ratio is 1.

    Args:
        log_p: of every token at each position, (N, L, V).
        sampled: (N, L).
        advantages: A (N,).
    """
    log_p_sampled = log_p.gather(-1, sampled.tokens[..., None])[..., 0]
    return -token_mean(advantages[:, None] * log_p_sampled, sampled.is_new)


def kl_of_tokens(log_p: Tensor, log_p_reference: Tensor) -> Tensor:
    """KL(p || p_reference) of the next token at each position, exact: (N, L, V) -> (N, L) nats."""
    return (log_p.exp() * (log_p - log_p_reference)).sum(dim=-1)


def token_mean(values: Tensor, is_new: Tensor) -> Tensor:
    """The mean of values (N, L) over the new tokens of all rows."""
    return (values * is_new).sum() / is_new.sum()


def check_rewards(rewards: Tensor, num: int, what: str = "images") -> Tensor:
    """The rewards of `num` images, or what else there is, as (num,) float32 without gradient.

    Raises:
        UserError: a reward has returned another shape, or a number that is not finite.
    """
    if tuple(rewards.shape) != (num,) or not bool(rewards.isfinite().all()):
        found = f"shape {tuple(rewards.shape)}" if tuple(rewards.shape) != (num,) else "a number that is not finite"
        raise UserError(f"the reward of {num} {what} has {found}: return one finite number for each, ({num},)")
    return rewards.detach().float()
