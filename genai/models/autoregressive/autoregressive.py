"""Networks that predict the next token: transformers, recurrent networks, hidden Markov models."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from genai.models.autoregressive.network_model import TokenNetworkModel
from genai.models.conditions import drop_condition, encode_labels
from genai.models.text import log_probs_of


class Autoregressive(TokenNetworkModel):
    """Trained with the cross-entropy of the next token.

    Args:
        vocab_size: number of tokens, linked from the data.
        context_length: of the training windows, linked from the data.
        condition_dropout: share of the documents that are trained without their label, so that samples need none; only for
            data with labels.
        options: of `TokenNetworkModel`.
    """

    def __init__(self, vocab_size: int, context_length: int, condition_dropout: float = 0.1, **options: Any) -> None:
        super().__init__(vocab_size, context_length, **options)
        self.condition_dropout = condition_dropout

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        tokens, _, *labels = batch  # (N, context_length + 1), -1 after the end of a document
        condition = encode_labels(labels[0], self.num_classes) if self.num_classes else None
        inputs, is_text = tokens.clamp(min=0), tokens >= 0
        log_probs = log_probs_of(self.network(inputs[:, :-1], drop_condition(condition, self.condition_dropout)), inputs)
        loss = -(log_probs * is_text).sum() / is_text.sum()
        self.step_log.record({"train/loss": loss}, prog_bar=True)
        self.count_images(tokens[:, 1:].numel())
        return loss
