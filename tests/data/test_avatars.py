"""Avatars: every attribute is rendered as labelled, and nothing else changes with it."""

import numpy as np
import pytest

from genai.data.augment import Augment
from genai.data.avatars import ATTRIBUTES, CHOICES, FIRST_SEED, Avatars, attributes, caption, render
from genai.data.avatars.captions import MAX_WORDS, caption_words
from genai.data.avatars.styles import STYLES, render_style
from genai.data.words import decode, words_of
from genai.errors import UserError

WORDS = {
    "glasses": "glasses",
    "beard": "beard",
    "long_hair": "long",
    "curly_hair": "curly",
    "black_hair": "black",
    "blond_hair": "blond",
    "red_hair": "red hair",
    "hat": "hat",
    "smile": "smiling",
    "dark_skin": "dark skin",
    "wide_eyes": "wide",
    "closed_eyes": "closed",
    "angry_eyebrows": "angry",
    "earrings": "earrings",
    "tilted_left": "to the left",
    "tilted_right": "to the right",
}
# rows and columns of the 64x64 image outside of which the attribute changes nothing on an upright face
REGIONS = {
    "glasses": (slice(20, 40), slice(8, 56)),
    "smile": (slice(30, 48), slice(20, 46)),
    "wide_eyes": (slice(18, 38), slice(14, 50)),
    "closed_eyes": (slice(18, 38), slice(14, 50)),
    "angry_eyebrows": (slice(12, 32), slice(14, 50)),
    "earrings": (slice(26, 44), slice(8, 56)),
}
UPRIGHT = {"tilted_left": False, "tilted_right": False}


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("seed", [3, 5])
def test_an_attribute_changes_its_region_and_nothing_else(name: str, seed: int) -> None:
    with_it, without = (render({**UPRIGHT, name: value}, seed) for value in (True, False))
    changed = (with_it != without).any(0)
    assert changed[REGIONS[name]].sum() >= 10
    changed[REGIONS[name]] = False
    assert not changed.any()


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_attribute_can_be_seen(name: str) -> None:
    for seed in range(5):
        with_it, without = (render({name: value}, seed).astype(int) for value in (True, False))
        assert (abs(with_it - without).max(0) > 40).sum() >= 8


def test_rendering_is_deterministic_and_scales() -> None:
    assert render({}, 7).shape == (3, 64, 64)
    assert render({}, 7).dtype == np.uint8
    assert render({}, 7, size=32).shape == (3, 32, 32)
    assert np.array_equal(render({}, 7), render({}, 7))
    assert not np.array_equal(render({}, 7), render({}, 8))


def test_a_sequence_of_all_attributes_renders_the_same_as_their_names() -> None:
    has = attributes(11)
    assert np.array_equal(render(has, 11), render({}, 11))
    assert np.array_equal(render(np.array(list(has.values()), np.float32), 11), render({}, 11))


def test_attributes_are_independent_with_the_stated_probabilities() -> None:
    labels = np.array([list(attributes(seed).values()) for seed in range(4000)], float)
    expected = [p for choice in CHOICES for p in choice.values()]
    assert np.abs(labels.mean(0) - expected).max() < 4 * 0.5 / np.sqrt(4000)
    correlation = np.corrcoef(labels.T)
    for choice in CHOICES:  # within a choice they exclude each other
        rows = [ATTRIBUTES.index(name) for name in choice]
        assert labels[:, rows].sum(1).max() == 1
        correlation[np.ix_(rows, rows)] = 0
    assert np.abs(correlation).max() < 4.5 / np.sqrt(4000)


def test_a_fixed_attribute_clears_those_it_excludes() -> None:
    blond = next(seed for seed in range(100) if attributes(seed)["blond_hair"])
    assert attributes(blond, {"red_hair": True})["blond_hair"] is False
    assert attributes(blond, {"red_hair": False})["blond_hair"] is True


def test_impossible_attributes_are_refused() -> None:
    with pytest.raises(UserError, match="both black_hair and red_hair"):
        render({"black_hair": True, "red_hair": True}, 0)
    with pytest.raises(UserError, match="unknown attribute moustache"):
        render({"moustache": True}, 0)


def test_a_tilted_head_leans_to_the_viewers_side() -> None:
    """The black hair's centre lies on the side that the head leans to."""
    for name, sign in (("tilted_left", -1), ("tilted_right", 1)):
        image = render({"black_hair": True, "long_hair": False, "curly_hair": False, "hat": False, name: True}, 3)
        columns = np.nonzero((image[:, :20] < 50).all(0))[1]
        assert np.sign(columns.mean() - 32) == sign


def test_a_caption_says_every_attribute_and_no_other() -> None:
    for seed in range(300):
        has = attributes(seed)
        text = caption(has, seed) + " "
        assert {name for name in ATTRIBUTES if WORDS[name] in text} == {name for name in ATTRIBUTES if has[name]}, text
        assert text == caption(has, seed) + " "


def test_flips_are_refused_because_the_side_of_a_tilt_is_a_label() -> None:
    with pytest.raises(UserError, match=r"augment\.flip tilts heads"):
        Avatars(augment=Augment(flip=True))


def test_captions_vary_in_words() -> None:
    has = attributes(0, {"glasses": True, "smile": True})
    assert len({caption(has, seed) for seed in range(50)}) > 20
    assert caption({}).startswith("a ")


def test_the_vocabulary_is_what_captions_say_and_no_more() -> None:
    said = {word for seed in range(1500) for word in words_of(caption(attributes(seed), seed))}
    assert set(caption_words()[2:]) == said
    assert caption_words() == ("", "?", *sorted(said))


def test_the_longest_caption_fits() -> None:
    names = ("beard", "glasses", "hat", "earrings", "wide_eyes", "angry_eyebrows", "tilted_left")
    longest = max(len(words_of(caption(dict.fromkeys(names, True), seed))) for seed in range(1000))
    assert 40 < longest <= 43 < MAX_WORDS


@pytest.fixture
def small(tmp_path, monkeypatch) -> Avatars:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path))
    return Avatars(size=16, num_images=12)


def test_the_splits_hold_the_faces_of_their_seeds(small: Avatars) -> None:
    assert {split: len(small.split(split)) for split in FIRST_SEED} == {"train": 12, "val": 3, "test": 3}
    for split, first in FIRST_SEED.items():
        images = small.split(split)
        assert np.array_equal(images.images[2], render({}, first + 2, size=16))
        assert images.labels[2].tolist() == [float(value) for value in attributes(first + 2).values()]
        assert small.captions(split)[2] == caption(attributes(first + 2), first + 2)


def test_an_image_does_not_depend_on_how_many_there_are(small: Avatars) -> None:
    assert np.array_equal(Avatars(size=16, num_images=5).split("train").images, small.split("train").images[:5])


def test_processes_render_the_same_faces(small: Avatars, monkeypatch) -> None:
    alone = small.split("train").images.copy()
    monkeypatch.setattr("genai.data.avatars.WORTH_A_POOL", 0)
    monkeypatch.setenv("GENAI_CACHE", small.cache_entry().images.filename.parents[1].as_posix() + "-again")
    assert np.array_equal(Avatars(size=16, num_images=12).split("train").images, alone)


def test_captions_are_labels_of_the_same_images(small: Avatars, monkeypatch) -> None:
    small.prepare_data()
    monkeypatch.setattr(Avatars, "build", None)  # what is rendered serves both
    data = Avatars(size=16, num_images=12, labels="captions")
    assert (data.label_kind, data.num_classes) == ("text", len(data.class_names))
    for name in FIRST_SEED:
        images = data.split(name)
        assert np.array_equal(images.images, small.split(name).images)
        assert images.labels.dtype == np.int64
        assert images.labels.shape == (len(images), MAX_WORDS)
        assert [decode(row, data.class_names) for row in images.labels] == data.captions(name)
        assert np.array_equal(data.attributes(name), small.split(name).labels)
        assert np.array_equal(small.attributes(name), small.split(name).labels)
    assert data.fingerprint("val") == small.fingerprint("val")
    assert next(iter(data.train_dataloader())).labels.shape == (12, MAX_WORDS)


@pytest.mark.parametrize("name", STYLES)
def test_faces_of_other_styles_differ_from_seed_to_seed(name: str) -> None:
    faces = [render_style(name, seed, 32) for seed in (0, 1)]
    assert [face.shape for face in faces] == [(3, 32, 32)] * 2
    assert (faces[0] != faces[1]).mean() > 0.2
    assert np.array_equal(render_style(name, 1, 32), faces[1])
    assert not np.array_equal(render({}, 1, 32), faces[1])
