"""An n-gram model, fitted by counting: one epoch is one pass over the training text."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from genai.errors import UserError
from genai.models.optimization import count_batch
from genai.models.text import TextModel
from genai.networks.kneser_ney import KneserNey


class NGram(TextModel):
    """n-grams with modified Kneser-Ney smoothing.

    A training step counts a batch, of all devices together; there is no optimiser. n-grams across the border of two training
    windows are not counted: choose windows much longer than n. Of data by document, a window is a document, and its first
    tokens count too.

    Args:
        vocab_size: number of tokens, linked from the data.
        context_length: of the training windows, linked from the data.
        order: n.
        num_classes: labels of the data that it is conditioned on, linked from the data; 0 for none.
    """

    is_fitted_once = True

    def __init__(self, vocab_size: int, context_length: int, order: int = 6, num_classes: int = 0) -> None:
        super().__init__(vocab_size, context_length, num_classes=num_classes)
        self.automatic_optimization = False
        self.network = KneserNey(vocab_size, order, num_classes)

    def configure_optimizers(self) -> None:
        """There is nothing to optimise."""

    def on_train_start(self) -> None:
        """Refuse to count the text more than once.

        Raises:
            UserError: the Trainer would go on for more than one epoch.
        """
        trainer = self.trainer
        if trainer.max_epochs != 1 and not 0 <= trainer.max_steps <= trainer.num_training_batches:
            raise UserError(f"{type(self).__name__} counts the text once: use --trainer.max_epochs 1")

    def on_fit_start(self) -> None:
        data = getattr(self.trainer, "datamodule", None)
        self.network.by_document.fill_(getattr(data, "by_document", False))  # type: ignore[operator]

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        tokens, _, *labels = batch
        everywhere: Any = self.all_gather([tokens, *labels] if self.num_classes else [tokens])  # so that each has all counts
        self.network.add(everywhere[0].flatten(0, -2), *[part.flatten() for part in everywhere[1:]])  # type: ignore[operator]
        self.count_images(tokens[:, 1:].numel())
        count_batch(self.trainer)

    def log_probs(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        log_probs: Tensor = self.network.log_probs(tokens, condition)  # type: ignore[operator]
        return log_probs

    def export_state(self) -> dict[str, Tensor]:
        return self.network.state_dict()

    def import_state(self, state: Mapping[str, Tensor]) -> None:
        self.network.load_state_dict(state)
        self.is_exported = True
