"""Fully sharded training (FSDP) for networks that one device cannot hold."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.distributed.fsdp.wrap import wrap

from genai.errors import UserError
from genai.models.ema import PowerAveraged
from genai.networks.dit import DiT
from genai.networks.transformer import Transformer
from genai.networks.unet import UNet

NETWORKS = (UNet, DiT, Transformer)


class Sharded(FSDPStrategy):
    """FSDP that keeps the names of parameters, for optimisers and averages; a checkpoint is gathered and written whole.

    Args:
        options: of Lightning's FSDPStrategy.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(state_dict_type="full", use_orig_params=True, **options)


class ShardNetworks(L.Callback):
    """Shards each of NETWORKS, and its averaged copies in the same way, so that each device averages its own shards.

    The model around them is not sharded: FSDP ends a backward pass at its outermost module, and a model that calls `backward`
    by itself is still in its forward pass then.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if any(isinstance(module, PowerAveraged) for module in pl_module.modules()):
            raise UserError("the snapshots of power-function averages are not sharded: add --model.init_args.power_stds '[]'")
        sharded = {id(p) for network in pl_module.modules() if isinstance(network, NETWORKS) for p in network.parameters()}
        if not sharded or any(p.requires_grad and id(p) not in sharded for p in pl_module.parameters()):
            raise UserError(
                f"a {type(pl_module).__name__} whose networks are not all a UNet, DiT or Transformer cannot be sharded: use "
                "configs/trainer/ddp.yaml"
            )
        with trainer.strategy.model_sharded_context():
            shard(pl_module)
        pl_module.to(trainer.strategy.root_device)


def shard(module: nn.Module) -> None:
    """Replace each of NETWORKS inside of `module` by a sharded one."""
    for name, child in list(module.named_children()):
        if isinstance(child, NETWORKS):
            # FSDP returns the optimiser state of channels-last weights in another order (torch 2.15)
            setattr(module, name, wrap(child.to(memory_format=torch.contiguous_format)))
        else:
            shard(child)
