"""FSDP is refused for a model that has networks which would not be sharded: their gradients would differ between processes."""

from types import SimpleNamespace

import pytest
from torch import nn

from genai.errors import UserError
from genai.networks.transformer import Transformer
from genai.training.sharding import ShardNetworks


def transformer() -> Transformer:
    return Transformer(5, 4, dim=8, depth=1, num_heads=1)


@pytest.mark.parametrize("networks", [[nn.Linear(2, 2)], [transformer(), nn.Linear(2, 2)]])
def test_a_network_that_is_not_sharded_is_refused(networks: list[nn.Module]) -> None:
    model = nn.ModuleList(networks)
    with pytest.raises(UserError, match=r"cannot be sharded: use configs/trainer/ddp\.yaml"):
        ShardNetworks().setup(SimpleNamespace(), model, "fit")  # type: ignore[arg-type]
