"""Networks that predict the next token: transformers, recurrent networks, hidden Markov models."""

from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch.cli import OptimizerCallable, instantiate_class
from torch import Tensor, nn

from genai.models.autoregressive.optimizers import check_matrices, optimizer_of
from genai.models.ema import Averaged
from genai.models.optimization import ImagesSeenLR
from genai.models.schedules import Cosine
from genai.models.text import TextModel, log_probs_of

TokenNetworkFactory = Callable[[int, int], nn.Module]  # (vocab_size, context_length) -> network
TRANSFORMER = {"class_path": "genai.networks.transformer.Transformer", "init_args": {"positions": "rotary"}}
ADAMW = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 3e-3, "betas": [0.9, 0.99], "weight_decay": 0.0}}


class Autoregressive(TextModel):
    """Trained with the cross-entropy of the next token.

    Args:
        vocab_size: number of tokens, linked from the data.
        context_length: of the training windows, linked from the data.
        network: factory of the network (tokens, cache) -> logits; by default a transformer with rotary positions.
        optimizer: any torch optimiser.
        matrix_optimizer: optimiser of the network's hidden matrices, such as torch.optim.Muon (Jordan et al. 2024); the other
            parameters stay with `optimizer`. None for one optimiser.
        lr_schedule: factor on the learning rates, a function of the tokens seen.
        ema_halflife_ktokens: half-life of the averaged network, in thousands of tokens.
        compile: compile the network, see `Model`.

    Raises:
        UserError: the network has no hidden matrices for `matrix_optimizer`.
    """

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        network: TokenNetworkFactory = TRANSFORMER,  # type: ignore[assignment]
        optimizer: OptimizerCallable = ADAMW,  # type: ignore[assignment]
        matrix_optimizer: OptimizerCallable | None = None,
        lr_schedule: Cosine | None = None,
        ema_halflife_ktokens: float = 20.0,
        compile: bool | str = False,
    ) -> None:
        super().__init__(vocab_size, context_length, compile)
        sizes = vocab_size, context_length
        self.network = instantiate_class(sizes, network) if isinstance(network, dict) else network(*sizes)  # default: a dict
        self.averaged = Averaged(self.network, ema_halflife_ktokens)
        self.optimizer = optimizer
        self.matrix_optimizer = matrix_optimizer
        self.lr_schedule = lr_schedule
        self.not_compiled = (self.averaged,)  # a cache changes its shape with each token
        check_matrices(self.network, matrix_optimizer)

    def configure_optimizers(self) -> Any:
        optimizer = optimizer_of(self.network, self.optimizer, self.matrix_optimizer, self._trainer)
        if self.lr_schedule is None:
            return optimizer
        scheduler = ImagesSeenLR(optimizer, lambda: self.lr_schedule(self.images_seen))  # type: ignore[misc]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "train/lr"}}

    def initialise_from(self, state: Mapping[str, Tensor]) -> None:
        """Load the averaged weights of another model, from its `export_state`."""
        for network in (self.network, self.averaged.network):
            network.load_state_dict(state)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        tokens, _ = batch  # (N, context_length + 1)
        loss = -log_probs_of(self.network(tokens[:, :-1]), tokens).mean()
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        self.count_images(tokens[:, 1:].numel())
        return loss
