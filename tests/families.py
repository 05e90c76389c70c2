"""A tiny member of each family on scikit-learn's digits: what tests of training machinery run for all of them."""

from pathlib import Path

import torch
from torch import Tensor, nn

CONFIGS = Path(__file__).parent.parent / "configs/digits"
FAMILIES = {
    "gan": {
        "generator.init_args.hidden": "[32]",
        "discriminator.init_args.hidden": "[32]",
        "discriminator.init_args.dropout": "0",
    },
    "diffusion": {"network.init_args.channels": "[8]", "network.init_args.embedding_dim": "16"},
    "vae": {
        "encoder.init_args.channels": "[8]",
        "encoder.init_args.patch_size": "2",
        "decoder.init_args.channels": "[8]",
        "decoder.init_args.patch_size": "2",
    },
    "vqvae": {
        "encoder.init_args.channels": "[8]",
        "encoder.init_args.num_blocks": "[0]",
        "decoder.init_args.channels": "[8]",
        "decoder.init_args.num_blocks": "[0]",
        "prior.init_args.dim": "24",
        "prior.init_args.num_heads": "2",
        "prior.init_args.depth": "1",
        "prior.init_args.dropout": "0",
        "quantizer.init_args.num_codes": "24",
        "tokenizer_kimg": "0.8",
    },
    "features": {"network": "tests.families.Logits"},
}
QUIET = ["--tracker", "csv", "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
QUIET += ["--trainer.accelerator", "cpu", "--trainer.precision", "32"]
TRUST = ["--trust", "tests"]


class Logits(nn.Module):
    """A classifier without batch norm, whose statistics are those of one device's images, but with a buffer to broadcast."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        pixels = image_shape[0] * image_shape[1] * image_shape[2]
        self.register_buffer("scale", torch.ones(()))
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 32), nn.GELU(), nn.Linear(32, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images) * self.scale
        return logits


def family(name: str) -> list[str]:
    """The options of a fit of the family; it logs each step, and has no evaluation and no gallery."""
    sizes = [word for option, size in FAMILIES[name].items() for word in (f"--model.init_args.{option}", size)]
    plain = ["--trainer.log_every_n_steps", "1", "--evaluation.num_samples", "100", "--evaluation.every_n_epochs", "0"]
    return ["-c", str(CONFIGS / f"{name}.yaml"), *sizes, *QUIET, *plain, "--gallery.every_n_epochs", "0"]
