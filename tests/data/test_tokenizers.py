"""Tokenizers: round trips, the bytes of tokens, rebuilding from run.json."""

import json

import numpy as np
import pytest

from genai.data.tokenizers import BytePairs, Bytes, Characters, TextTokenizer, from_spec, train_tokenizer
from genai.errors import UserError

TEXT = "The café's menu: thé, crème brûlée; the tea, the cream. 你好\n" * 20


@pytest.fixture(scope="module")
def pairs() -> BytePairs:
    return BytePairs.train([TEXT], 300, has_end=True)


@pytest.mark.parametrize("kind", ["characters", "bytes", "bpe"])
@pytest.mark.parametrize("has_end", [False, True])
def test_round_trip_and_rebuilding(kind, has_end: bool) -> None:
    tokenizer = train_tokenizer(kind, [TEXT], 290, has_end)
    tokens = tokenizer.encode(TEXT)
    again = from_spec(json.loads(json.dumps(tokenizer.spec())))
    assert tokenizer.text(tokens) == TEXT
    assert tokenizer.num_bytes[tokens].sum() == len(TEXT.encode())
    assert np.array_equal(again.encode(TEXT), tokens)
    assert again.pieces == tokenizer.pieces
    assert len(tokenizer.names()) == tokenizer.vocab_size
    assert tokenizer.end == (tokenizer.vocab_size - 1 if has_end else None)


def test_byte_pairs_round_trip_on_any_bytes(pairs: BytePairs) -> None:
    generator = np.random.default_rng(0)
    contents = [bytes(range(256)), b"\xff\xfe\x00", "é".encode()[:1], *(generator.bytes(n) for n in (1, 50, 999))]
    for content in contents:
        assert pairs.decode(pairs.encode_bytes(content)) == content
    assert pairs.decode([*pairs.encode("tea"), pairs.end]) == b"tea"


def test_byte_pairs_are_shorter_than_bytes(pairs: BytePairs) -> None:
    assert 257 < pairs.vocab_size <= 300
    assert len(pairs.encode(TEXT)) < 0.7 * len(TEXT.encode())


def test_an_unknown_character_is_one_line() -> None:
    with pytest.raises(UserError, match=r"does not know the character 'd' \(at position 3"):
        Characters("abc", has_end=False).encode("abcd")


def test_half_a_character_is_shown_as_unknown() -> None:
    tokenizer: TextTokenizer = Bytes(has_end=False)
    assert tokenizer.text(tokenizer.encode("é")[:1]) == "\ufffd"
    assert tokenizer.names()[ord("\n")] == "\\n"


def test_bad_vocabularies_are_refused() -> None:
    with pytest.raises(UserError, match="bpe_size 100 is too small"):
        train_tokenizer("bpe", [TEXT], 100, has_end=False)
    with pytest.raises(UserError, match="cannot be read"):
        from_spec({"kind": "bpe", "model": {}, "has_end": False})
