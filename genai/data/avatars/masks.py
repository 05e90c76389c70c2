"""The pixels that an attribute of a rendered face changes: the truth that maps of words are compared with."""

import numpy as np

from genai.data.avatars.rendering import render

WORDS = {"glasses": "glasses", "beard": "beard", "hat": "hat", "earrings": "earrings", "smiling": "smile"}
VISIBLE = 16  # of 255: a smaller difference of a channel is not counted


def attribute_mask(attribute: str, seed: int, size: int) -> np.ndarray:
    """Where face `seed` with the attribute differs from the same face without it: bool (size, size)."""
    faces = [render({attribute: value}, seed, size).astype(int) for value in (False, True)]
    return np.asarray(np.abs(faces[1] - faces[0]).max(axis=0) > VISIBLE)
