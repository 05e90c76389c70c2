"""Rendered faces whose every attribute is known: DiceBear's style "avataaars", rendered by resvg.

The style is a remix of "Avataaars" by Pablo Stanley, free for personal and commercial use (https://avataaars.com/);
DiceBear's code is MIT, resvg's Apache 2.0 or MIT. Its layers are changed so that no attribute hides another: hats lie on the
hair instead of replacing it, pushed up so that the hair below shows; eyebrows lie above hair and glasses; earrings are added.
"""

import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from genai.errors import UserError

VERSION = 1  # raised when the same seed gives another face

Attributes = Mapping[str, bool] | Sequence[float] | np.ndarray

# Each line is one random choice: at most one of its attributes is true, with these probabilities.
CHOICES: tuple[dict[str, float], ...] = (
    {"glasses": 0.4},
    {"beard": 0.3},
    {"long_hair": 0.5},  # else short
    {"curly_hair": 0.4},  # else straight
    {"black_hair": 0.3, "blond_hair": 0.25, "red_hair": 0.2},  # else brown
    {"hat": 0.3},
    {"smile": 0.5},  # else serious or sad
    {"dark_skin": 0.4},  # else light
    {"wide_eyes": 0.25, "closed_eyes": 0.25},  # else open as usual
    {"angry_eyebrows": 0.3},
    {"earrings": 0.3},
    {"tilted_left": 0.25, "tilted_right": 0.25},  # the head leans to the viewer's left or right; else upright
)
ATTRIBUTES: tuple[str, ...] = tuple(name for choice in CHOICES for name in choice)

HAIR = {  # (long, curly): variants of the style
    (False, False): ("shortFlat", "shortRound", "shortWaved", "theCaesar"),
    (False, True): ("fro", "dreads02"),
    (True, False): ("straight01", "straight02", "straightAndStrand"),
    (True, True): ("curvy", "dreads"),
}
HAIR_COLORS = {
    "black_hair": ("#17120f", "#261c1a"),
    "blond_hair": ("#e3bf6c", "#eed68c"),
    "red_hair": ("#c93305", "#d9480f"),
    "": ("#573120", "#633a25"),
}
SKIN = {True: ("#a5602f", "#b0703c"), False: ("#ffdbb4", "#f3c9a0")}
EYES = {"wide_eyes": "surprised", "closed_eyes": "closed", "": "default"}
EYEBROWS = {True: ("angry",), False: ("default", "raisedExcited")}
MOUTHS = {True: ("smile", "tongue"), False: ("serious", "sad")}
BEARDS = ("beardMedium", "beardMajestic")
GLASSES = ("prescription01", "prescription02", "round")
GLASSES_COLORS = ("#16181a", "#1d2f5e", "#5b1226")
CLOTHES = ("shirtCrewNeck", "shirtScoopNeck", "shirtVNeck", "hoodie", "collarAndSweater", "overall", "blazerAndShirt")
COLORS = ("#3c4f5c", "#5199e4", "#25557c", "#929598", "#5fbf8f", "#7d5fb2", "#ff488e", "#e6e6e6")  # of clothes and hats
EARRING_COLORS = ("#ffd21f", "#ffffff", "#22d3ee")
BACKGROUNDS = ("#b6e3f4", "#c0aede", "#d1d4f9", "#ffd5dc", "#ffdfbf", "#c8ecc9")


def attributes(seed: int, fixed: Mapping[str, bool] | None = None) -> dict[str, bool]:
    """All attributes of face `seed`, in the order of ATTRIBUTES; those in `fixed` as given, the rest sampled as in CHOICES.

    Raises:
        UserError: `fixed` names an unknown attribute, or two that exclude each other.
    """
    values = {}
    for choice, u in zip(CHOICES, random(seed)[: len(CHOICES)], strict=True):
        bounds = np.cumsum(list(choice.values()))
        values.update({name: i == int(np.searchsorted(bounds, u, side="right")) for i, name in enumerate(choice)})
    return {**values, **overrides(fixed or {})}


def overrides(fixed: Mapping[str, bool]) -> dict[str, bool]:
    """`fixed`, with False for the attributes that its true ones exclude."""
    unknown = sorted(set(fixed) - set(ATTRIBUTES))
    if unknown:
        raise UserError(f"unknown attribute {unknown[0]}: choose among {', '.join(ATTRIBUTES)}")
    values = {}
    for choice in CHOICES:
        chosen = [name for name in choice if fixed.get(name)]
        if len(chosen) > 1:
            raise UserError(f"a face cannot have both {chosen[0]} and {chosen[1]}: choose one")
        values.update({name: name in chosen for name in choice if chosen or name in fixed})
    return values


def as_dict(values: Attributes) -> dict[str, bool]:
    """A mapping as it is; a sequence of all attributes (0 or 1, in the order of ATTRIBUTES) as a dict by name."""
    if isinstance(values, Mapping):
        return dict(values)
    return {name: bool(value) for name, value in zip(ATTRIBUTES, values, strict=True)}


def render(values: Attributes, seed: int, size: int = 64) -> np.ndarray:
    """Face `seed` with these attributes, uint8 (3, size, size).

    Attributes that `values` lacks and all other details (cut of hair and clothes, colours, position) depend on `seed` only, so
    the same face can be rendered with and without glasses.
    """
    return rasterise(svg(values, seed), size)


def rasterise(svg: str, size: int) -> np.ndarray:
    """An SVG as uint8 (3, size, size)."""
    from resvg_py import svg_to_bytes

    png = svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    rendered = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))  # (size, size, 3)
    return np.ascontiguousarray(rendered.transpose(2, 0, 1))


def svg(values: Attributes, seed: int) -> str:
    """Face `seed` with these attributes as an SVG of 280x280 units."""
    from dicebear import Avatar

    return str(Avatar(style(), options(attributes(seed, as_dict(values)), random(seed)[len(CHOICES) :])))


def random(seed: int) -> np.ndarray:
    """The uniform numbers in [0, 1) that determine face `seed`: one for each of CHOICES, then those for `options`."""
    return np.random.default_rng(seed).random(len(CHOICES) + 20)


def options(has: Mapping[str, bool], u: np.ndarray) -> dict[str, Any]:
    """DiceBear's options for a face; each detail has its own number of `u`, so no attribute changes another detail."""

    def pick(i: int, values: Sequence[str]) -> str:
        return values[int(u[i] * len(values))]

    def which(*names: str) -> str:
        return next((name for name in names if has[name]), "")

    hair_color = pick(0, HAIR_COLORS[which("black_hair", "blond_hair", "red_hair")])
    tilt = {"tilted_left": -1, "tilted_right": 1, "": 0}[which("tilted_left", "tilted_right")]
    return {
        "topVariant": pick(1, HAIR[has["long_hair"], has["curly_hair"]]),
        "hairColor": hair_color,
        "facialHairVariant": pick(2, BEARDS),
        "facialHairProbability": 100 * has["beard"],
        "facialHairColor": hair_color,
        "accessoriesVariant": pick(3, GLASSES),
        "accessoriesProbability": 100 * has["glasses"],
        "accessoriesColor": pick(4, GLASSES_COLORS),
        "hatVariant": "hat",
        "hatProbability": 100 * has["hat"],
        "hatColor": pick(5, COLORS),
        "earringsVariant": "studs",
        "earringsProbability": 100 * has["earrings"],
        "earringsColor": pick(6, EARRING_COLORS),
        "mouthVariant": pick(7, MOUTHS[has["smile"]]),
        "eyesVariant": EYES[which("wide_eyes", "closed_eyes")],
        "eyebrowsVariant": pick(8, EYEBROWS[has["angry_eyebrows"]]),
        "skinColor": pick(9, SKIN[has["dark_skin"]]),
        "clothesVariant": pick(10, CLOTHES),
        "clothesColor": pick(11, COLORS),
        "backgroundColor": pick(12, BACKGROUNDS),
        "flip": pick(13, ("none", "horizontal")),
        "rotate": tilt * (12 + 6 * u[14]),  # degrees, clockwise
        "scale": 1.08 + 0.1 * u[15],
        "translateX": 6 * u[16] - 3,  # percent of the side
        "translateY": 4 + 3 * u[17],
    }


@cache
def style() -> Any:
    """The style, with hats and earrings as separate layers."""
    from dicebear import Style

    definition = json.loads(files("dicebear_styles").joinpath("avataaars.json").read_text("utf-8"))
    components, layers = definition["components"], definition["canvas"]["elements"]
    top = components["top"]
    components["hat"] = {**top, "variants": {"hat": top["variants"]["hat"]}}
    components["earrings"] = {"width": 280, "height": 280, "variants": {"studs": {"elements": [stud(80), stud(200)]}}}
    definition["colors"]["earrings"] = {"values": list(EARRING_COLORS)}
    layers[:] = [layer for layer in layers if layer["name"] != "eyebrows"]
    above = [layer["name"] for layer in layers].index("top") + 1
    layers.insert(above, layer_at("hat", 8, -14))
    layers.extend([layer_at("eyebrows", 91.86, 70), layer_at("earrings", 0, 0)])
    return Style(definition)


def layer_at(name: str, x: float, y: float) -> dict[str, Any]:
    """A component's place on the canvas."""
    return {"name": name, "type": "component", "attributes": {"transform": f"translate({x} {y})"}}


def stud(x: int) -> dict[str, Any]:
    """An earring below the ear at `x`."""
    disc = {"cx": str(x), "cy": "143", "r": "9", "stroke": "#262e33", "stroke-width": "2.5"}
    return {"name": "circle", "type": "element", "attributes": {**disc, "fill": {"type": "color", "name": "earrings"}}}
