"""Pictures inside an HTML file: data URIs of WebP."""

import base64
import io
from pathlib import Path

from PIL import Image

MAX_WIDTH = 560  # pixels; grids of larger images are reduced


def data_uri(picture: Image.Image, lossless: bool = False) -> str:
    """The picture as a WebP data URI, at most 560 pixels wide; lossy compression suits the many frames of a training."""
    picture = picture.convert("RGB")
    if picture.width > MAX_WIDTH:
        picture = picture.resize((MAX_WIDTH, round(picture.height * MAX_WIDTH / picture.width)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "WEBP", lossless=lossless, quality=75)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def spaced(paths: dict[int, Path], num: int) -> dict[int, Path]:
    """At most `num` entries, evenly spaced, the first and the last among them."""
    keys = sorted(paths)
    if len(keys) > num:
        keys = [keys[round(i * (len(keys) - 1) / (num - 1))] for i in range(num)]
    return {key: paths[key] for key in keys}
