"""--watermark: samples that carry a key, and the p-value of a key in images."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from genai.cli.options.labels import has_null_condition, null_condition
from genai.cli.options.run import LoadedRun
from genai.control.inversion import latents_of
from genai.errors import UserError
from genai.models.capabilities import Decodes, InvertsNoise
from genai.models.seeds import image_seeds, seeded_normal
from genai.models.watermarks import SignMark

NUM_CHECKED, TOLERANCE = 500, 0.25  # latents of the prior, and how far their means and deviations may be from 0 and 1
BATCH_SIZE = 64
RESTORE_FROM = 0.6  # noise level


def check_key(key: str | None) -> None:
    """Raise UserError for an empty key."""
    if key is not None and not key.strip():
        raise UserError("the key of a watermark is empty: use a text that nobody guesses")


def marked_samples(
    source: LoadedRun, key: str, seeds: Sequence[int], condition: Tensor | None, settings: dict[str, Any]
) -> Tensor:
    """Samples (N, C, H, W) in [-1, 1] whose noise or latents have the signs of the key, see `SignMark`.

    Raises:
        UserError: the model has neither noise nor latents that can be marked, or a setting chooses between samples.
    """
    model, mark = source.model, SignMark(key)
    check_markable(source)
    if isinstance(model, InvertsNoise):
        own = {name: value for name, value in settings.items() if name != "guiding_model"}
        sampling = source.model.sampling.override(**own)
        if sampling.adds_noise():
            raise UserError(
                f"the sampler {sampling.sampler} adds noise in its steps, and the mark would not be found: "
                "add --sampler dpmpp; for a run with consistency tuning, name the run that it began with"
            )
        noise = mark.mark(seeded_normal(seeds, source.model.image_shape, source.model.device), seeds)
        return source.model.sample(seeds, condition, initial_noise=noise, **settings)  # type: ignore[no-any-return]
    if settings:
        raise UserError(f"--watermark sets the latents of {source.run.path}: leave --candidates out")
    z = mark.mark(model.latents(seeds), seeds)
    parts = [slice(start, start + BATCH_SIZE) for start in range(0, len(z), BATCH_SIZE)]
    labels = [None if condition is None else condition[part].to(z.device) for part in parts]
    with torch.no_grad():
        return torch.cat([model.decode(z[part], own) for part, own in zip(parts, labels, strict=True)])


def check_markable(source: LoadedRun) -> None:
    """Raise UserError unless the model samples from normal noise that can be found again."""
    model = source.model
    if isinstance(model, InvertsNoise):
        return
    if not isinstance(model, Decodes):
        raise UserError(
            f"{source.run.path} is a {type(model).__name__}, whose noise cannot be found again in an image: watermarks need a "
            "diffusion model, a GAN, a VAE or a model of text"
        )
    if source.model.conditional and not has_null_condition(model):
        raise UserError(
            f"{source.run.path} is a conditional {type(model).__name__}, whose latents cannot be found again in an image "
            "without its label: watermarks need an unconditional GAN, a VAE or a diffusion model"
        )
    z = model.latents(image_seeds(1, NUM_CHECKED))
    if float((z.mean(dim=0).abs()).max()) > TOLERANCE or float((z.std(dim=0) - 1).abs().max()) > TOLERANCE:
        raise UserError(f"the latents of {source.run.path} are not standard normal, and a watermark would change its images")


def mark_p_values(source: LoadedRun, key: str, images: Tensor) -> Tensor:
    """p-values (N,) float64 of the key in images (N, C, H, W) in [-1, 1], see `SignMark.p_values`.

    The noise is found without labels: with the null condition of a conditional model. It is found twice, for the image as it
    is and for the image that the model restores from the level RESTORE_FROM; the smaller p-value is corrected for two (Sidak).

    Raises:
        UserError: the model has neither noise nor latents that can be marked.
    """
    model = source.model
    check_markable(source)
    mark, parts = SignMark(key), []
    for batch in images.split(BATCH_SIZE):
        condition = null_condition(source, len(batch))
        if isinstance(model, InvertsNoise):
            found = [mark.p_values(model.invert(batch, condition, restore_from=level)) for level in (0.0, RESTORE_FROM)]
            parts.append(-torch.expm1(2 * torch.log1p(-torch.minimum(*found))))
        else:
            parts.append(mark.p_values(latents_of(model, batch, condition)))
    return torch.cat(parts)
