"""Several optimisers as one object, so that Lightning's automatic optimisation works: Muon for matrices, AdamW for the rest."""

from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.optim import Optimizer

from genai.errors import UserError
from genai.models.optimization import build_optimizer


class CombinedOptimizer(Optimizer):
    """Optimisers of different parameters that step together.

    They share one state and one list of groups, so that a checkpoint, a schedule and gradient clipping see one optimiser.

    Args:
        optimizers: at least one, of disjoint parameters.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        self.share()

    def share(self) -> None:
        """Give each optimiser its groups of `param_groups` and the common state."""
        start = 0
        for optimizer in self.optimizers:
            stop = start + len(optimizer.param_groups)
            optimizer.param_groups, optimizer.state = self.param_groups[start:stop], self.state
            start = stop

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Step all optimisers; the closure runs once, before them."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.share()


def check_matrices(network: nn.Module, matrix_optimizer: OptimizerCallable | None) -> None:
    """Raise UserError for a network without `hidden_matrices` where there is a `matrix_optimizer`."""
    if matrix_optimizer is not None and not hasattr(network, "hidden_matrices"):
        raise UserError(f"a {type(network).__name__} has no hidden matrices for model.init_args.matrix_optimizer: leave it out")


def optimizer_of(
    network: nn.Module,
    optimizer: OptimizerCallable,
    matrix_optimizer: OptimizerCallable | None,
    trainer: L.Trainer | None,
) -> Optimizer:
    """The optimiser of all parameters, or the two of the hidden matrices and of the rest as one.

    Raises:
        UserError: FSDP with a matrix optimiser.
    """
    if matrix_optimizer is None:
        return build_optimizer(optimizer, network)
    if trainer is not None and isinstance(trainer.strategy, FSDPStrategy):
        raise UserError("FSDP gives each device a part of a matrix: leave model.init_args.matrix_optimizer out, or use DDP")
    matrices = list(network.hidden_matrices())  # type: ignore[operator]
    hidden = {id(matrix) for matrix in matrices}
    others = [parameter for parameter in network.parameters() if id(parameter) not in hidden]
    parts = ((matrix_optimizer, matrices), (optimizer, others))
    return CombinedOptimizer([build_optimizer(factory, nn.ParameterList(part)) for factory, part in parts])
