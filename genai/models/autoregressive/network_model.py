"""What all text models with a trained network share: the network, its average, its optimisers."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch.cli import OptimizerCallable, instantiate_class
from torch import nn

from genai.errors import UserError
from genai.models.autoregressive.optimizers import check_matrices, optimizer_of
from genai.models.ema import Averaged, WarmStart
from genai.models.optimization import with_schedule
from genai.models.schedules import TokenCosine
from genai.models.text import TextModel

TokenNetworkFactory = Callable[[int, int], nn.Module]  # (vocab_size, context_length) -> network
TRANSFORMER = {"class_path": "genai.networks.transformer.Transformer", "init_args": {"positions": "rotary"}}
ADAMW = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 3e-3, "betas": [0.9, 0.99], "weight_decay": 0.0}}


class TokenNetworkModel(TextModel, WarmStart):
    """A network that predicts the next token, with its averaged weights; a subclass implements `training_step`.

    Args:
        vocab_size: number of tokens, linked from the data.
        context_length: of the training windows, linked from the data.
        network: factory of the network (tokens, cache) -> logits; by default a transformer with rotary positions.
        optimizer: any torch optimiser.
        matrix_optimizer: optimiser of the network's hidden matrices, such as torch.optim.Muon (Jordan et al. 2024); the other
            parameters stay with `optimizer`. None for one optimiser.
        lr_schedule: factor on the learning rates, a function of the tokens seen.
        ema_halflife_ktokens: half-life of the averaged network, in thousands of tokens.
        num_classes: labels of the data that the network is conditioned on, linked from the data; 0 for none.
        compile: compile the network, see `Model`.

    Raises:
        UserError: the network has no hidden matrices for `matrix_optimizer`, or takes no label.
    """

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        network: TokenNetworkFactory = TRANSFORMER,  # type: ignore[assignment]
        optimizer: OptimizerCallable = ADAMW,  # type: ignore[assignment]
        matrix_optimizer: OptimizerCallable | None = None,
        lr_schedule: TokenCosine | None = None,
        ema_halflife_ktokens: float = 20.0,
        num_classes: int = 0,
        compile: bool | str = False,
    ) -> None:
        super().__init__(vocab_size, context_length, compile, num_classes)
        self.network = build_network(network, vocab_size, context_length, num_classes)
        self.averaged = Averaged(self.network, ema_halflife_ktokens)
        self.optimizer = optimizer
        self.matrix_optimizer = matrix_optimizer
        self.lr_schedule = lr_schedule
        self.not_compiled = (self.averaged,)  # a cache changes its shape with each token
        check_matrices(self.network, matrix_optimizer)

    def configure_optimizers(self) -> Any:
        optimizer = optimizer_of(self.network, self.optimizer, self.matrix_optimizer, self._trainer)
        return with_schedule(optimizer, self.lr_schedule, self)


def build_network(
    factory: TokenNetworkFactory | dict[str, Any], vocab_size: int, context_length: int, num_classes: int
) -> nn.Module:
    """The network; with labels, one that takes them. The model's default is a dict of class_path and init_args.

    Raises:
        UserError: there are labels, and the network takes none.
    """
    sizes = vocab_size, context_length
    label = {"num_classes": num_classes} if num_classes else {}
    try:
        if isinstance(factory, dict):
            return instantiate_class(sizes, factory | {"init_args": {**factory.get("init_args", {}), **label}})  # type: ignore[no-any-return]
        return factory(*sizes, **label)
    except TypeError as error:
        if "num_classes" not in str(error):
            raise
        raise UserError("the network takes no label: use a Transformer, or --data.init_args.labels false") from None
