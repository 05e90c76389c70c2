"""Images: uint8 0..255 <-> float [-1, 1], grids, captions; PNG files and animations with provenance metadata."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import ExifTags, Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from genai import __version__
from genai.files import open_atomically
from genai.memory import check_memory

MIN_TILE = 56  # pixels; smaller images are enlarged without smoothing
BYTES_OF_FLOATS, BYTES_OF_GRID = 8, 4  # of a pixel, while images are sampled, and while a grid of them is made
GAP, CAPTION, HEADING = 8, 18, 34  # pixels
ANIMATIONS = (".gif", ".webp")
LAST_FRAMES = 4  # the last frame stands as long as so many others


def check_number(num: int, image_shape: Sequence[int]) -> None:
    """Raise UserError if `num` sampled images of a shape (C, H, W) do not fit into the memory."""
    size = BYTES_OF_FLOATS * num * math.prod(image_shape)
    check_memory(size, f"{num:,} images", "generate fewer at a time, each time with another --seed")


def to_float(images: Tensor) -> Tensor:
    """uint8 in 0..255 -> float32 in [-1, 1], any shape; 0 becomes -1 and 255 becomes 1."""
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Float in [-1, 1] -> uint8 in 0..255, any shape; values outside are clamped. Inverts `to_float` for all 256 values."""
    return images.to(torch.float32).add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def match_histogram(images: Tensor, samples: Tensor, real: Tensor) -> Tensor:
    """Histogram matching: map pixel values of a model so that they are distributed as those of real images.

    The map rises monotonically and is the same for every pixel: the quantile of a value among `samples` -> the value of `real`
    at that quantile. It changes the output of a model after sampling, so scores of such images are not those of the model.

    Args:
        images: to be changed, float in [-1, 1], any shape.
        samples: other samples of the same model, float in [-1, 1], to estimate the quantiles.
        real: uint8 training images; never those of the split that the scores are of.

    Returns:
        uint8 images of the shape of `images`.
    """
    own, wanted = samples.flatten().sort().values, real.flatten().sort().values
    rank = torch.searchsorted(own, images.contiguous()) + torch.searchsorted(own, images.contiguous(), right=True)
    quantile = rank.double() / (2 * len(own))
    return wanted[(quantile * len(wanted)).long().clamp(max=len(wanted) - 1)]


def grid(images: Tensor, columns: int | None = None) -> Image.Image:
    """uint8 images (N, C, H, W) -> one picture, row by row; tiles below 56 pixels are enlarged without smoothing."""
    from torchvision.utils import make_grid  # slow to import

    factor = math.ceil(MIN_TILE / images.shape[-1])
    size = BYTES_OF_GRID * images.numel() * factor**2
    check_memory(size, f"{len(images):,} images in one picture", "write fewer, or one file for each with --out FOLDER/")
    images = images.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    columns = columns or math.ceil(math.sqrt(len(images)))
    return to_pil(make_grid(images, nrow=columns, padding=2, pad_value=64))


def captioned(images: Tensor, captions: Sequence[str], heading: str) -> Image.Image:
    """uint8 images (N, C, H, W) row by row, a caption under each, below a heading.

    Pillow, not matplotlib, writes the text: pixels stay whole multiples of the originals, and no axes have to be laid out.
    """
    num, _, height, width = images.shape
    factor = math.ceil(MIN_TILE / min(height, width))
    columns = math.ceil(math.sqrt(num))
    across, down = width * factor + GAP, height * factor + CAPTION + GAP
    picture = Image.new("RGB", (max(columns * across + GAP, 300), math.ceil(num / columns) * down + HEADING + GAP), "white")
    draw, small = ImageDraw.Draw(picture), ImageFont.load_default(13)
    draw.text((GAP, HEADING / 2 + 2), heading, fill="black", font=ImageFont.load_default(18), anchor="lm")
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = GAP + index % columns * across, HEADING + index // columns * down
        tile = to_pil(image).convert("RGB")
        picture.paste(tile.resize((width * factor, height * factor), Image.Resampling.NEAREST), (left, top))
        middle = (left + width * factor / 2, top + height * factor + CAPTION / 2 + 1)
        draw.text(middle, caption, fill="#444444", font=small, anchor="mm")
    return picture


def annotated(
    images: Tensor, columns: int, rows: Sequence[str] = (), heads: Sequence[str] = (), captions: Sequence[str] = ()
) -> Image.Image:
    """uint8 images (N, C, H, W) row by row on white, with texts.

    Args:
        images: N is a multiple of `columns`.
        columns: images in a row.
        rows: a text left of each row.
        heads: a text above each column.
        captions: a text under each image.
    """
    _, _, height, width = images.shape
    factor = math.ceil(MIN_TILE / min(height, width))
    font = ImageFont.load_default(13)
    left = GAP + max((math.ceil(font.getlength(text)) + GAP for text in rows), default=0)
    top = GAP + (CAPTION if heads else 0)
    widest = max((font.getlength(text) for text in (*heads, *captions)), default=0)
    across, down = max(width * factor, math.ceil(widest)) + GAP, height * factor + GAP + (CAPTION if captions else 0)
    picture = Image.new("RGB", (left + columns * across, top + len(images) // columns * down), "white")
    draw = ImageDraw.Draw(picture)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        x, y = left + column * across + (across - GAP - width * factor) // 2, top + row * down
        tile = to_pil(image).convert("RGB")
        picture.paste(tile.resize((width * factor, height * factor), Image.Resampling.NEAREST), (x, y))
        middle = x + width * factor / 2
        if captions:
            draw.text((middle, y + height * factor + CAPTION / 2 + 1), captions[index], "#444444", font, anchor="mm")
        if heads and row == 0:
            draw.text((middle, top - CAPTION / 2), heads[column], "black", font, anchor="mm")
        if rows and column == 0:
            draw.text((GAP, y + height * factor / 2), rows[row], "black", font, anchor="lm")
    return picture


def titled(picture: Image.Image, heading: str) -> Image.Image:
    """The picture on white, below a heading."""
    font = ImageFont.load_default(18)
    width = max(picture.width, math.ceil(font.getlength(heading))) + 2 * GAP
    result = Image.new("RGB", (width, picture.height + HEADING + GAP), "white")
    ImageDraw.Draw(result).text((GAP, HEADING / 2 + 2), heading, fill="black", font=font, anchor="lm")
    result.paste(picture.convert("RGB"), (GAP, HEADING))
    return result


def side_by_side(panels: Sequence[Image.Image]) -> Image.Image:
    """Panels side by side on white with a line between them."""
    width = sum(panel.width for panel in panels) + 3 * GAP * (len(panels) - 1)
    picture = Image.new("RGB", (width, max(panel.height for panel in panels)), "white")
    left = 0
    for i, panel in enumerate(panels):
        if i:
            x = left - 1.5 * GAP
            ImageDraw.Draw(picture).line([(x, GAP), (x, picture.height - GAP)], fill="#bbbbbb", width=2)
        picture.paste(panel, (left, 0))
        left += panel.width + 3 * GAP
    return picture


def to_pil(image: Tensor) -> Image.Image:
    """uint8 image (C, H, W), C 1 or 3 -> a grey or RGB PIL image."""
    array = image.to(torch.uint8).cpu().numpy()
    return Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0))


def save_png(picture: Image.Image, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a generated image whole or not at all, with text metadata: the software, that a model made it, and `metadata`."""
    info = PngInfo()
    info.add_text("Software", f"genai {__version__}")
    info.add_text("Source", "generated by a model")
    for key, value in metadata.items():
        info.add_itxt(key, value)
    with open_atomically(path) as file:
        picture.save(file, format="PNG", pnginfo=info)


def save_animation(frames: Sequence[Image.Image], path: Path, metadata: Mapping[str, str], milliseconds: int = 200) -> None:
    """Write frames of one size as an endless GIF or WebP, by the ending of `path`, whole or not at all.

    Args:
        frames: the pictures; the last one stands four times as long.
        path: ends in one of ANIMATIONS.
        metadata: written with the software and that a model made the images: the comment of a GIF, the EXIF data of a WebP.
        milliseconds: of each frame.
    """
    about = {"Software": f"genai {__version__}", "Source": "generated by a model", **metadata}
    text = "; ".join(f"{key}: {value}" for key, value in about.items())
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = text
    options = {"comment": text} if path.suffix == ".gif" else {"lossless": True, "exif": exif}
    first, *others = [frame.convert("RGB") for frame in frames]
    durations = [milliseconds] * len(others) + [LAST_FRAMES * milliseconds]
    with open_atomically(path) as file:
        kind = path.suffix.removeprefix(".").upper()
        first.save(file, kind, save_all=True, append_images=others, duration=durations, loop=0, **options)
