"""From strokes on a canvas to an image of the model's size."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genai.errors import UserError
from genai.images import to_float

INK_SHARE = 20 / 28  # longer side of a digit's box over the side of the image, as in MNIST


def digit(strokes: np.ndarray, shape: tuple[int, int, int]) -> Tensor:
    """Strokes -> a white digit on black, (1, C, H, W) in [-1, 1].

    As in MNIST the digit's box has 20 of 28 pixels, and its centre of mass is the middle of the image; in images of less than
    20 pixels it fills the height.

    Args:
        strokes: how much ink there is, uint8 (height, width).
        shape: (C, H, W) of the model's images.

    Raises:
        UserError: there are no strokes.
    """
    channels, size, _ = shape
    rows, columns = (np.flatnonzero(strokes.max(axis=axis) > 0) for axis in (1, 0))
    if not len(rows):
        raise UserError("the canvas is empty: draw a digit")
    box = strokes[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    longest = round(size * INK_SHARE) if size >= 20 else size
    factor = longest / max(box.shape)
    height, width = (max(1, round(side * factor)) for side in box.shape)
    small = np.asarray(Image.fromarray(box).resize((width, height), Image.Resampling.BOX), np.float64)
    image = np.zeros((size, size), np.uint8)
    mass = small.sum(axis=1) @ np.arange(height) / small.sum(), small.sum(axis=0) @ np.arange(width) / small.sum()
    top, left = (
        int(np.clip(round((size - 1) / 2 - middle), 0, size - side)) for middle, side in zip(mass, small.shape, strict=True)
    )
    image[top : top + height, left : left + width] = small.round()
    return to_float(torch.from_numpy(image).expand(1, channels, size, size))


def ink(layers: list[np.ndarray]) -> np.ndarray:
    """The opacity of RGBA layers (height, width, 4) together, uint8 (height, width)."""
    if not layers:
        raise UserError("the canvas is empty: draw a digit")
    alpha: np.ndarray = np.max([layer[..., 3] for layer in layers], axis=0)
    return alpha
