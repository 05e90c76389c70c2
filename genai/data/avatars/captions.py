"""Captions: the attributes of a face in plain English."""

from collections.abc import Mapping, Sequence

import numpy as np

from genai.data.avatars.rendering import ATTRIBUTES, Attributes, as_dict
from genai.data.words import vocabulary

PARTS = {  # attributes that are mentioned only if they are true, each in one of two phrasings
    "beard": ("a beard", "a full beard"),
    "glasses": ("glasses", "a pair of glasses"),
    "hat": ("a hat", "a sun hat"),
    "earrings": ("earrings", "round earrings"),
    "wide_eyes": ("wide eyes", "wide open eyes"),
    "closed_eyes": ("closed eyes", "both eyes closed"),
    "angry_eyebrows": ("angry eyebrows", "an angry frown"),
}
LENGTHS, TEXTURES, SKINS, MOODS = ("short", "long"), ("straight", "curly"), ("light", "dark"), ("serious", "smiling")
LEANS = ("tilted", "leaning")
SUBJECTS = ("face", "person", "cartoon face", "portrait of a person")
COLORS = {"black_hair": "black", "blond_hair": "blond", "red_hair": "red", "": "brown"}
TILTS = {"tilted_left": "left", "tilted_right": "right"}
BETWEEN = "a, an, with and to the hair skin"
MAX_WORDS = 48  # the longest caption has eight parts, 43 words and commas


def caption_words() -> tuple[str, ...]:
    """The vocabulary of all possible captions."""
    phrases = (*PARTS.values(), LENGTHS, TEXTURES, SKINS, MOODS, LEANS, SUBJECTS, COLORS.values(), TILTS.values())
    return vocabulary([BETWEEN, *(words for phrase in phrases for words in phrase)])


def caption(values: Attributes, seed: int = 0) -> str:
    """A sentence that states all attributes; those that `values` lacks count as false. `seed` chooses the phrasing."""
    has = dict.fromkeys(ATTRIBUTES, False) | {name: bool(value) for name, value in as_dict(values).items()}
    rng = np.random.default_rng(seed)
    parts = [hair(has), f"{SKINS[has['dark_skin']]} skin"]
    parts += [words[rng.integers(2)] for name, words in PARTS.items() if has[name]]
    order = rng.permutation(len(parts))
    mood = MOODS[has["smile"]]
    lean = next((f", {LEANS[rng.integers(2)]} to the {side}" for name, side in TILTS.items() if has[name]), "")
    subject = SUBJECTS[rng.integers(len(SUBJECTS))].replace("a person", f"a {mood} person")
    article = "a" if mood in subject else f"a {mood}"
    return f"{article} {subject} with {listed([parts[i] for i in order])}{lean}"


def hair(has: Mapping[str, bool]) -> str:
    """Length, texture and colour of the hair."""
    color = next((word for name, word in COLORS.items() if has.get(name)), COLORS[""])
    return f"{LENGTHS[has['long_hair']]} {TEXTURES[has['curly_hair']]} {color} hair"


def listed(parts: Sequence[str]) -> str:
    """["a", "b", "c"] -> "a, b and c"; two at least."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
