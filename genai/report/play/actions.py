"""What each control of the playground does: from its settings to a picture. Nothing here knows of a browser."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from genai.control.paths import slerp
from genai.data.words import encode
from genai.errors import UserError
from genai.images import grid, to_uint8
from genai.metrics.features import FeatureNetwork
from genai.models.seeds import image_seeds
from genai.report.play.controls import ALL, Controls, classifier_of, controls_of
from genai.runs import Run
from genai.runs.sampling import default_condition

Progress = Callable[[float], Any]  # called with the share of a sampling that is done, 0 to 1
SIDES = ("bottom", "top", "left", "right")
PAD_TILES = 7  # of the map of the pad, in each direction
NUM_EDITS = 7  # variations or completions of a drawing
WIDTH = 400  # pixels of a picture, at least about
CHUNK = 16  # `sample` pads to whole chunks: a smaller one is faster, and changes images in their last bits only
NULL = {"class": -1, "attributes": 0.5, "text": 0}


class Cancelled(Exception):
    """The user has stopped a sampling."""


@dataclass(frozen=True)
class Settings:
    """The settings of a condition and a sampler; a model ignores those that it has no control for.

    Attributes:
        label: a class name, or `all` for the classes in turn.
        attributes: names of attributes to set.
        prompt: a caption; empty for those of training images.
        guidance, steps: None for the model's own.
    """

    label: str = ALL
    attributes: tuple[str, ...] = ()
    prompt: str = ""
    guidance: float | None = None
    steps: int | None = None


class PlayableRun:
    """A run in the playground.

    Args:
        run: its folder.
        name: its heading.
        model: of the run, in eval mode.
    """

    def __init__(self, run: Run, name: str, model: Any) -> None:
        self.run = run
        self.name = name
        self.model = model
        self.classifier: FeatureNetwork | None = classifier_of(run)
        self.controls: Controls = controls_of(run, model, self.classifier)
        self.cancelled = threading.Event()

    # -- samples ---------------------------------------------------------------------------------------------------------

    def sample(self, seed: int, num: int, settings: Settings, progress: Progress = lambda share: None) -> Image.Image:
        """A grid of `num` samples, those of `genai sample --seed SEED`.

        Raises:
            Cancelled: `cancel` was called meanwhile.
            UserError: the settings do not fit the model.
        """
        self.cancelled.clear()
        images = self.model.sample(
            image_seeds(seed, num), self.condition(settings, num), CHUNK, **self.sampler_options(settings, progress)
        )
        return picture(images)

    def cancel(self) -> None:
        """Stop the sampling that is going on."""
        self.cancelled.set()

    def sampler_options(self, settings: Settings, progress: Progress) -> dict[str, Any]:
        """Options of `sample`, with a callback for progress; none for a model that samples in one step."""
        if self.controls.steps is None:
            return {}
        given = {"guidance_scale": settings.guidance if self.controls.guidance is not None else None, "steps": settings.steps}
        options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        levels = self.model.sampling.override(**options).sigmas()

        def callback(x: Tensor, sigma: Tensor) -> None:
            if self.cancelled.is_set():
                raise Cancelled
            progress(float((levels > float(sigma[0]) * 1.0001).sum()) / (len(levels) - 1))

        return options | {"callback": callback}

    def condition(self, settings: Settings, num: int, is_edit: bool = False) -> Tensor | None:
        """The condition of `num` images: (num,), (num, K) or (num, L); None for an unconditional model.

        Without a setting: the default of `genai sample`; of an edited image the null condition.
        """
        kind = self.controls.condition
        if kind == "class" and settings.label != ALL:
            return torch.full((num,), self.controls.choices.index(settings.label))
        condition = default_condition(self.run, self.model, num)
        if condition is None:
            return None
        if kind == "text" and settings.prompt.strip():
            words = encode(settings.prompt, self.run.record()["class_names"], condition.shape[1])
            return torch.tensor([words]).repeat(num, 1)
        if kind == "attributes" and settings.attributes:
            condition[:, [self.controls.choices.index(name) for name in settings.attributes]] = 1.0
            return condition
        return torch.full_like(condition, NULL[kind]) if is_edit else condition

    # -- latent space ----------------------------------------------------------------------------------------------------

    def decode_at(self, seed: int, x: Tensor, y: Tensor, settings: Settings) -> Tensor:
        """Images (N, C, H, W) at positions x, y (N,) in [0, 1] of a slice of the latent space.

        The corners of the slice are the latents of the first four samples of `seed`, between which it is interpolated on arcs.
        """
        corners = self.model.latents(image_seeds(seed, 4)).unsqueeze(1)  # (4, 1, D)
        upper, lower = (slerp(corners[i], corners[i + 1], x)[:, 0] for i in (0, 2))  # (N, D)
        z = torch.cat([slerp(upper[i : i + 1], lower[i : i + 1], y[i : i + 1])[0] for i in range(len(x))])
        images: Tensor = self.model.decode(z, self.first_condition(settings, len(z)))
        return images

    def pad_map(self, seed: int, settings: Settings) -> Image.Image:
        """The slice of the latent space in 7 x 7 images."""
        steps = torch.linspace(0, 1, PAD_TILES)
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        return picture(self.decode_at(seed, x.flatten(), y.flatten(), settings), PAD_TILES)

    def pad(self, seed: int, x: float, y: float, settings: Settings) -> Image.Image:
        """The image at one position of the slice."""
        return picture(self.decode_at(seed, torch.tensor([float(x)]), torch.tensor([float(y)]), settings))

    def interpolate(self, seed: int, other: int, points: int, settings: Settings) -> Image.Image:
        """A row of images from the first sample of one seed to that of another, ends included."""
        z_a, z_b = (self.model.latents(image_seeds(own, 1)) for own in (seed, other))
        z = slerp(z_a, z_b, torch.linspace(0, 1, points))[:, 0]
        return picture(self.model.decode(z, self.first_condition(settings, points)), points)

    def first_condition(self, settings: Settings, num: int) -> Tensor | None:
        """The condition of the first sample, `num` times."""
        condition = self.condition(settings, 1)
        return None if condition is None else condition.repeat(num, *[1] * (condition.ndim - 1))

    # -- drawings --------------------------------------------------------------------------------------------------------

    def classify(self, image: Tensor) -> dict[str, float]:
        """The probability of each class for one image (1, C, H, W) in [-1, 1], from the feature network of the data."""
        assert self.classifier is not None
        logits = self.classifier(to_uint8(image)).logits
        assert logits is not None
        return dict(zip(self.classifier.class_names, logits[0].softmax(dim=0).tolist(), strict=True))

    def reconstruct(self, image: Tensor, settings: Settings) -> Image.Image:
        """One image (1, C, H, W) and its reconstruction side by side."""
        return picture(torch.cat([image, self.model.reconstruct(image, self.condition(settings, 1, is_edit=True)).cpu()]), 2)

    def vary(self, image: Tensor, seed: int, strength: float, settings: Settings, progress: Progress) -> Image.Image:
        """One image and seven variations of it (SDEdit)."""
        self.cancelled.clear()
        repeated, condition = image.repeat(NUM_EDITS, 1, 1, 1), self.condition(settings, NUM_EDITS, is_edit=True)
        options = self.sampler_options(settings, progress)
        varied = self.model.vary(repeated, image_seeds(seed, NUM_EDITS), strength, condition, chunk=CHUNK, **options)
        return picture(torch.cat([image, varied.cpu()]), 4)

    def fill_in(self, image: Tensor, side: str, seed: int, settings: Settings, progress: Progress) -> Image.Image:
        """One image without a half, which is grey, and seven completions of it."""
        self.cancelled.clear()
        mask = half_mask(side, image.shape[-1])
        condition = self.condition(settings, NUM_EDITS, is_edit=True)
        repeated, masks = image.repeat(NUM_EDITS, 1, 1, 1), mask.repeat(NUM_EDITS, 1, 1, 1)
        options = self.sampler_options(settings, progress)
        filled = self.model.restore(repeated, masks, image_seeds(seed, NUM_EDITS), condition, chunk=CHUNK, **options)
        return picture(torch.cat([torch.where(mask > 0, torch.zeros_like(image), image), filled.cpu()]), 4)


def half_mask(side: str, size: int) -> Tensor:
    """A mask (1, 1, size, size) that is 1 in one half; UserError for an unknown side."""
    mask, half = torch.zeros(1, 1, size, size), size // 2
    halves = {"top": mask[..., :half, :], "bottom": mask[..., half:, :], "left": mask[..., :half], "right": mask[..., half:]}
    if side not in halves:
        raise UserError(f"there is no side {side!r}: choose {', '.join(SIDES)}")
    halves[side].fill_(1)
    return mask


def picture(images: Tensor, columns: int | None = None) -> Image.Image:
    """Images (N, C, H, W) in [-1, 1] as a grid, which is enlarged by a whole factor to about 400 pixels."""
    result = grid(to_uint8(images).cpu(), columns)
    factor = max(1, round(WIDTH / result.width))
    return result.resize((factor * result.width, factor * result.height), Image.Resampling.NEAREST)
