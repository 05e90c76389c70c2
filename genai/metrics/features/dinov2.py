"""DINOv2 (Oquab et al. 2023, arXiv:2304.07193), whose features agree with people better than Inception's (arXiv:2306.04675)."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from genai.errors import UserError
from genai.metrics.features.network import FeatureNetwork, Features, sha256_of

SIZE = 224  # pixels, as in arXiv:2306.04675
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
WANTED = "a folder with config.json and model.safetensors, such as a download of facebook/dinov2-small"


class DINOv2Features(nn.Module):
    """The normalised class token of the last layer; images are resized to 224 pixels, bicubic."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(STD)[:, None, None])

    def forward(self, images: Tensor) -> Features:
        """uint8 (N, 3, H, W) -> features (N, D)."""
        x = interpolate(images.float() / 255, (SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 1)
        return Features(self.network((x - self.mean) / self.std).pooler_output, None)


def load(weights: Path | None = None) -> FeatureNetwork:
    """DINOv2 from the folder `weights` or $GENAI_DINOV2; nothing is downloaded.

    Raises:
        UserError: the library `transformers` is missing, or there is no such folder.
    """
    try:
        from transformers import Dinov2Model
    except ImportError:
        raise UserError("the feature network `dinov2` needs the library `transformers`: pip install genai[dinov2]") from None
    folder = weights or Path(os.environ.get("GENAI_DINOV2", ""))
    file = folder / "model.safetensors"
    if not file.is_file():
        raise UserError(f"`dinov2` has no weights at {folder}: name {WANTED} as --evaluation.weights or in $GENAI_DINOV2")
    try:
        with torch.random.fork_rng(devices=[]):
            network = Dinov2Model.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except Exception as error:  # damaged files and other models raise anything
        raise UserError(f"{folder} holds no weights of DINOv2 ({str(error).splitlines()[0][:100]}): name {WANTED}") from None
    return FeatureNetwork(
        name="dinov2",
        embed=DINOv2Features(network),
        channels=3,
        resize=f"antialiased bicubic to {SIZE}x{SIZE}",
        weights_sha256=sha256_of(file),
        task="class",
        class_names=(),
        num_classes=0,
    )
