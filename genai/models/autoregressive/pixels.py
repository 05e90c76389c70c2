"""Images as sequences: a network predicts the next patch of pixels in raster order, so the likelihood is exact."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pixel_shuffle, pixel_unshuffle

from genai.errors import UserError
from genai.models.autoregressive.optimizers import check_matrices, optimizer_of
from genai.models.base import ImageModel, Shape
from genai.models.capabilities import LikelihoodEstimate
from genai.models.conditions import check_labels, drop_condition
from genai.models.ema import Averaged, WarmStart
from genai.models.optimization import with_schedule
from genai.models.schedules import Cosine
from genai.models.seeds import SeededRandom
from genai.models.token_sampling import TokenSampling
from genai.networks.transformer import Cache

PixelNetworkFactory = Callable[[int, int, int], nn.Module]  # (vocab_size, context_length, num_classes) -> network
MAX_TOKENS = 4096


class PixelSequence(ImageModel, WarmStart):
    """p(x) = prod_i p(x_i | x_1, ..., x_{i-1}) over the patches of an image, from top left to bottom right.

    A patch of `patch_size` x `patch_size` pixels of all channels is one token; its pixels together have
    levels ** (patch_size ** 2 * C) values, so the probability of an image is exact whatever the size of the patches. Patches
    make the sequence shorter.

    With two levels a grey pixel is binarised: its brightness is the probability of white, sampled anew at each use, as for the
    VAE's Bernoulli likelihood (Salakhutdinov & Murray 2008), so the nats compare. The references are PixelRNN (van den Oord et
    al. 2016, arXiv:1601.06759) and Image GPT (Chen et al. 2020).

    Args:
        image_shape: (C, H, W), linked from the data.
        num_classes: width of the condition, linked from the data; 0 without labels.
        network: factory of the network (tokens, condition, cache) -> logits, such as a Transformer.
        levels: 2 for binarised pixels, 256 for 8-bit pixels.
        patch_size: side of a patch in pixels; it divides H and W.
        conditional: condition on the label.
        condition_dropout: share of training images without their condition.
        optimizer: any torch optimiser.
        matrix_optimizer: optimiser of the network's hidden matrices, such as torch.optim.Muon; None for one optimiser.
        lr_schedule: factor on the learning rates, a function of the images seen.
        ema_halflife_kimg: half-life of the averaged network, in thousands of images.
        token_sampling: temperature, top_k and top_p of the samples.
        compile: see `Model`.

    Raises:
        UserError: a patch has more than 4,096 values, or does not divide the image.
    """

    val_metrics = ("loss",)
    sample_chunk = 128

    def __init__(
        self,
        image_shape: Shape,
        num_classes: int,
        network: PixelNetworkFactory,
        optimizer: OptimizerCallable,
        levels: int = 2,
        patch_size: int = 1,
        conditional: bool = False,
        condition_dropout: float = 0.1,
        matrix_optimizer: OptimizerCallable | None = None,
        lr_schedule: Cosine | None = None,
        ema_halflife_kimg: float = 20.0,
        token_sampling: TokenSampling | None = None,
        compile: bool | str = False,
    ) -> None:
        super().__init__(image_shape, num_classes, compile=compile)
        check_labels(conditional, num_classes)
        channels, height, width = self.image_shape
        pixels = patch_size**2 * channels  # of a patch
        if levels not in (2, 256):
            raise UserError(f"levels {levels} is not known: use 2 (binarised pixels) or 256 (8-bit pixels)")
        if height % patch_size or width % patch_size or levels**pixels > MAX_TOKENS:
            raise UserError(
                f"a patch of {patch_size}x{patch_size} pixels does not fit: patch_size divides {height} and {width}, and "
                f"{levels} ** (patch_size ** 2 * {channels}) is at most {MAX_TOKENS:,}"
            )
        self.levels = levels
        self.patch_size = patch_size
        self.conditional = conditional
        self.condition_dropout = condition_dropout
        self.grid = height // patch_size, width // patch_size
        self.network = network(levels**pixels, math.prod(self.grid), num_classes if conditional else 0)
        self.averaged = Averaged(self.network, ema_halflife_kimg)
        self.register_buffer("place_values", levels ** torch.arange(pixels), persistent=False)
        self.optimizer = optimizer
        self.matrix_optimizer = matrix_optimizer
        self.lr_schedule = lr_schedule
        self.token_sampling = token_sampling or TokenSampling()
        self.not_compiled = (self.averaged,)  # a cache changes its shape with each token
        check_matrices(self.network, matrix_optimizer)

    def trained_network(self) -> nn.Module:
        return self.network

    # -- pixels and tokens -----------------------------------------------------------------------------------------------

    def to_tokens(self, images: Tensor, u: Tensor) -> Tensor:
        """Images in [-1, 1] -> tokens (N, L) int64 of their patches.

        Args:
            images: (N, C, H, W).
            u: uniform numbers of the same shape in [0, 1), which binarise grey pixels; unused with 256 levels.
        """
        brightness = (images + 1) / 2
        pixels = (u < brightness) if self.levels == 2 else (255 * brightness).round()
        digits = pixel_unshuffle(pixels.long(), self.patch_size)  # (N, C * patch_size ** 2, h, w)
        return (digits * self.place_values[:, None, None]).sum(dim=1).flatten(1)  # type: ignore[index]

    def to_images(self, tokens: Tensor) -> Tensor:
        """Tokens (N, L) -> images (N, C, H, W) in [-1, 1]; the inverse of `to_tokens`."""
        digits = tokens.unflatten(1, (1, *self.grid)) // self.place_values[:, None, None] % self.levels  # type: ignore[index]
        return pixel_shuffle(digits.float(), self.patch_size) * (2 / (self.levels - 1)) - 1

    def nats(self, network: nn.Module, tokens: Tensor, labels: Tensor | None, dropout: float = 0.0) -> Tensor:
        """-ln p of tokens (N, L) in nats, summed over an image: (N,)."""
        logits = network(tokens[:, :-1], drop_condition(self.encode_condition(labels), dropout)).float()  # (N, L, V)
        return cross_entropy(logits.transpose(1, 2), tokens, reduction="none").sum(dim=1)

    # -- training --------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        optimizer = optimizer_of(self.network, self.optimizer, self.matrix_optimizer, self._trainer)
        return with_schedule(optimizer, self.lr_schedule, self)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch  # (N, C, H, W), (N,) or (N, K)
        tokens = self.to_tokens(images, torch.rand_like(images))
        nats = self.nats(self.network, tokens, labels, self.condition_dropout).mean()
        self.step_log.record({"train/loss": nats}, prog_bar=True)
        self.count_images(len(images))
        return nats / tokens.shape[1]  # of a token

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log val/loss, nats per image; each evaluation binarises alike."""
        self.log("val/loss", self.evaluation_nats(batch, batch_idx), prog_bar=True, sync_dist=True, batch_size=len(batch[0]))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log test/loss, nats per image."""
        self.log("test/loss", self.evaluation_nats(batch, batch_idx), sync_dist=True, batch_size=len(batch[0]))

    def evaluation_nats(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean nats per image of the averaged network; the binarisation depends on `batch_idx` only."""
        images, labels = batch
        u = torch.rand(images.shape, generator=torch.Generator().manual_seed(batch_idx)).to(images)
        return self.nats(self.averaged, self.to_tokens(images, u), labels).mean()

    # -- likelihood and sampling -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def likelihood(self, images: Tensor, seeds: Sequence[int], condition: Tensor | None = None) -> LikelihoodEstimate:
        """-ln p(x), exact: images (N, C, H, W) in [-1, 1], of 256 values per pixel, binarised if the model has two levels.

        Args:
            images: (N, C, H, W) in [-1, 1].
            seeds: of the binarisation, one for each image.
            condition: see `ImageModel.sample`; None for no condition.
        """
        images = images.to(self.device)
        u = SeededRandom(seeds, self.device).uniform(self.image_shape)
        nats = self.nats(self.averaged, self.to_tokens(images, u), condition)
        kind = "exact, binarised pixels" if self.levels == 2 else "exact, 8-bit pixels"
        return LikelihoodEstimate.of_log_prob(-nats, images[0].numel(), kind)

    def generate(self, seeds: Sequence[int], condition: Tensor | None, **settings: Any) -> Tensor:
        """Sample one patch after another: (len(seeds), C, H, W) in [-1, 1].

        Args:
            seeds, condition: as in `sample`.
            settings: temperature, top_k and top_p, instead of the model's own.
        """
        sampling = replace(self.token_sampling, **settings)
        u = SeededRandom(seeds, self.device).uniform((math.prod(self.grid),))
        encoded = self.encode_condition(condition)
        tokens = torch.empty(len(seeds), 0, dtype=torch.long, device=self.device)
        cache = Cache()
        for i in range(u.shape[1]):
            logits = self.averaged(tokens[:, -1:], encoded, cache)[:, -1].float()
            tokens = torch.cat([tokens, sampling.sample(logits, u[:, i])[:, None]], dim=1)
        return self.to_images(tokens)
