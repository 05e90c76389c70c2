"""The first stage: a tokenizer turns an image into a grid of codes, and codes into an image."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from genai.errors import UserError
from genai.models.base import Shape
from genai.models.vqvae.quantizers import Quantized, Quantizer
from genai.models.vqvae.reconstruction import Reconstruction


class TokenizerOutput(NamedTuple):
    """What a forward pass of the tokenizer computes.

    decoded: output of the decoder, (N, C, H, W) float32.
    quantized: the codes of the images.
    z: vectors of the encoder (N, dim, h, w), without gradient.
    """

    decoded: Tensor
    quantized: Quantized
    z: Tensor

    def detach(self) -> "TokenizerOutput":
        """The same without gradient."""
        return TokenizerOutput(self.decoded.detach(), Quantized(*(part.detach() for part in self.quantized)), self.z)


class Tokenizer(nn.Module):
    """Encoder, quantizer and decoder (van den Oord et al. 2017, arXiv:1711.00937).

    Args:
        encoder: images (N, C, H, W) -> vectors (N, dim, h, w).
        quantizer: vectors -> codes.
        decoder: codes (N, dim, h, w) -> output (N, C, H, W).
        reconstruction: the loss between output and image.
    """

    def __init__(self, encoder: nn.Module, quantizer: Quantizer, decoder: nn.Module, reconstruction: Reconstruction) -> None:
        super().__init__()
        self.encoder = encoder
        self.quantizer = quantizer
        self.decoder = decoder
        self.reconstruction = reconstruction

    def forward(self, x: Tensor) -> TokenizerOutput:
        """Encode, quantize and decode x (N, C, H, W) in [-1, 1]."""
        z = self.encoder(x)
        quantized = self.quantizer(z)
        return TokenizerOutput(self.decoder(quantized.z_q).float(), quantized, z.detach())

    def loss(self, output: TokenizerOutput, x: Tensor) -> Tensor:
        """Reconstruction loss plus commitment loss (N,), of the output for x (N, C, H, W)."""
        return self.reconstruction(output.decoded, x) + output.quantized.loss

    def update_codebook(self, outputs: list[TokenizerOutput]) -> None:
        """Fit the codes to the vectors of a batch, given in microbatches; call it once after each optimiser step."""
        z, indices = torch.cat([output.z for output in outputs]), torch.cat([output.quantized.indices for output in outputs])
        self.quantizer.update_codes(z, indices)

    def encode(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> codes (N, h, w) int64."""
        indices: Tensor = self.quantizer(self.encoder(x)).indices
        return indices

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (N, h, w) int64 -> images (N, C, H, W) in [-1, 1]."""
        return self.reconstruction.image(self.decoder(self.quantizer.codes(codes)).float())

    @torch.no_grad()
    def grid(self, image_shape: Shape) -> tuple[int, int]:
        """Height and width of the grid of codes of an image.

        Raises:
            UserError: the decoder makes images of another shape.
        """
        was_training = self.training
        z = self.eval().encoder(torch.zeros(1, *image_shape))
        decoded_shape = tuple(self.decoder(z).shape[1:])
        self.train(was_training)
        if decoded_shape != tuple(image_shape):
            raise UserError(
                f"the decoder makes images of shape {decoded_shape}, but the data has {tuple(image_shape)}: give encoder and "
                "decoder the same channels and patch_size"
            )
        return z.shape[2], z.shape[3]
