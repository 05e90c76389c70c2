"""Faces of DiceBear's other styles, which no model of avatars has seen: outliers for anomaly detection.

Each style is by another artist; `Style.meta` of the package dicebear-styles has names and licences (CC0 or CC BY 4.0). Faces
are rendered on demand; none is shipped.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from genai.data.avatars.rendering import BACKGROUNDS, rasterise

STYLES = (
    "adventurer",
    "big-ears",
    "big-smile",
    "lorelei",
    "micah",
    "miniavs",
    "notionists",
    "open-peeps",
    "personas",
    "toon-head",
)


def render_style(name: str, seed: int, size: int = 64) -> np.ndarray:
    """Face `seed` of the style `name`, one of STYLES, on a background that avatars have: uint8 (3, size, size)."""
    from dicebear import Avatar

    options = {"seed": str(seed), "backgroundColor": BACKGROUNDS[seed % len(BACKGROUNDS)]}
    return rasterise(str(Avatar(style(name), options)), size)


@cache
def style(name: str) -> Any:
    """A style as DiceBear publishes it."""
    from dicebear import Style

    return Style(json.loads(files("dicebear_styles").joinpath(f"{name}.json").read_text("utf-8")))
