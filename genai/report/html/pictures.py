"""Pictures of a report: the sample grids of a training, and data URIs of WebP."""

import base64
import io
import re
import warnings
from pathlib import Path

from PIL import Image

from genai.data.archives import MAX_BYTES
from genai.data.decoding import why
from genai.errors import DamagedFileError
from genai.files import read_bounded

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


def epoch_grids(folder: Path) -> dict[int, Path]:
    """Epoch -> the sample grid that the gallery callback wrote after it."""
    matches = ((re.fullmatch(r"epoch-(\d+)", path.stem), path) for path in sorted(folder.glob("epoch-*.png")))
    return {int(match.group(1)): path for match, path in matches if match}


def read_grid(path: Path) -> Image.Image:
    """A sample grid; DamagedFileError where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow's, of a picture that is too large
            picture = Image.open(io.BytesIO(read_bounded(path, MAX_BYTES)), formats=["PNG"])
            picture.load()
    except DamagedFileError:
        raise
    except Exception as error:  # Pillow raises nearly anything on damaged bytes
        raise DamagedFileError(f"{path} cannot be read ({why(error)}): write it again, or delete it") from None
    return picture
