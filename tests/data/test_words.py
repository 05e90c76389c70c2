"""Sentences to tokens and back."""

import pytest

from genai.data.words import CaptionTokens, decode, encode, vocabulary, words_of
from genai.errors import UserError

TEXTS = ("a face with long hair, glasses and a hat", "A red-haired person")
WORDS = vocabulary(TEXTS)


def test_a_vocabulary_is_sorted_after_padding_and_unknown() -> None:
    assert WORDS == ("", "?", ",", "a", "and", "face", "glasses", "hair", "hat", "long", "person", "red-haired", "with")
    assert vocabulary(reversed(TEXTS)) == WORDS
    assert vocabulary(["a ?"]) == ("", "?", "a")


def test_a_comma_is_a_word_and_case_is_none() -> None:
    assert words_of("Hair ,a  HAT.") == ["hair", ",", "a", "hat", "."]


@pytest.mark.parametrize("text", [*(text.lower() for text in TEXTS), ""])
def test_encoding_and_decoding_gives_the_sentence_back(text: str) -> None:
    tokens = encode(text, WORDS, 12)
    assert len(tokens) == 12
    assert decode(tokens, WORDS) == text


def test_the_padding_follows_the_words() -> None:
    assert encode("Face, a hat", WORDS, 6) == [5, 2, 3, 8, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a face with glases", "the word 'glases' .* did you mean glasses\\?"),
        ("a zzz", "the word 'zzz' .* choose from , a and"),
        ("a ?", "the word '\\?'"),
        ("a a a a a", "at most 4 words and punctuation marks, this one has 5"),
    ],
)
def test_an_unencodable_prompt_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        encode(text, WORDS, 4)
    assert "\n" not in str(error.value)


def test_unknown_words_can_be_a_token() -> None:
    tokens = encode("a purple face", WORDS, 4, unknown="token")
    assert tokens == [3, 1, 5, 0]
    assert decode(tokens, WORDS) == "a ? face"


def test_captions_are_encoded_once_for_each_split() -> None:
    calls = []

    def captions(split: str) -> list[str]:
        calls.append(split)
        return ["a hat", "a face, glasses"]

    tokens = CaptionTokens(captions, WORDS, 5)
    for _ in range(2):
        assert tokens.of("val").tolist() == [encode("a hat", WORDS, 5), encode("a face, glasses", WORDS, 5)]
        assert tokens.of("val").dtype == "int64"
    assert calls == ["val"]
