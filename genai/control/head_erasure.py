"""Which attention heads a transformer of text needs, by erasing them, and whether that holds for other text."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from genai.control.spaces import hooks
from genai.errors import UserError
from genai.networks.transformer import Transformer

Head = tuple[int, int]  # block, head


class HeadErasure(NamedTuple):
    """Rise of the loss in nats per token, if heads are erased.

    single: of each head alone, on the first half of the windows, (depth, heads).
    important, random: of the heads with the largest rise, and of random other heads, on the other windows, (N,) each.
    num: heads erased together.
    """

    single: Tensor
    important: Tensor
    random: Tensor
    num: int


@contextmanager
def without_heads(network: Transformer, heads: Iterable[Head]) -> Iterator[None]:
    """A context in which heads contribute nothing (Michel et al. 2019, arXiv:1905.10650, equation 2 with a gate of 0)."""

    def gate(block: int, chosen: list[int]) -> object:
        attention = network.blocks[block].get_submodule("attention")
        num_heads: int = attention.num_heads  # type: ignore[assignment]

        def erase(layer: torch.nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            x = inputs[0].unflatten(-1, (num_heads, -1)).clone()  # (N, L, heads, D)
            x[:, :, chosen] = 0
            return (x.flatten(2),)

        return attention.get_submodule("project").register_forward_pre_hook(erase)

    chosen = list(heads)
    with hooks([gate(block, [h for b, h in chosen if b == block]) for block in sorted({b for b, _ in chosen})]):
        yield


@torch.no_grad()
def loss_of_windows(network: Transformer, tokens: Tensor) -> Tensor:
    """Mean -ln p of the tokens of each window (N, L), -1 after the end of a document, in nats: (N,)."""
    inputs, is_text = tokens.clamp(min=0), tokens >= 0
    log_p = network(inputs[:, :-1]).float().log_softmax(dim=-1)  # (N, L, V): the first position predicts the first token
    return -(log_p.gather(2, inputs[..., None])[..., 0] * is_text).sum(dim=1) / is_text.sum(dim=1)


def erase_heads(network: Transformer, tokens: Tensor, share: float = 0.2) -> HeadErasure:
    """Rank the heads on one half of the windows and erase the most important ones on the other half.

    Args:
        network: of several heads.
        tokens: windows (N, L) int64 of a text; -1 after the end of a document.
        share: of all heads that is erased together.

    Raises:
        UserError: there are fewer than four windows.
    """
    if len(tokens) < 4:
        raise UserError(f"{len(tokens)} windows of text are too few to rank heads and test them: use --num 4 or more")
    first, second = tokens[: len(tokens) // 2], tokens[len(tokens) // 2 :]
    num_heads = int(network.blocks[0].get_submodule("attention").num_heads)  # type: ignore[arg-type]
    heads = [(block, head) for block in range(len(network.blocks)) for head in range(num_heads)]
    before = loss_of_windows(network, first)
    rises = []
    for head in heads:
        with without_heads(network, [head]):
            rises.append(float((loss_of_windows(network, first) - before).mean()))
    num = max(1, round(share * len(heads)))
    order = torch.tensor(rises).argsort(descending=True).tolist()
    others = torch.randperm(len(heads) - num, generator=torch.Generator().manual_seed(0))[:num].tolist()
    before = loss_of_windows(network, second)
    falls = []
    for chosen in ([heads[i] for i in order[:num]], [heads[order[num + i]] for i in others]):
        with without_heads(network, chosen):
            falls.append((loss_of_windows(network, second) - before).cpu())
    return HeadErasure(torch.tensor(rises).view(-1, num_heads), falls[0], falls[1], num)
