"""Text data: windows, splits, exact resume, and one line for bad input."""

import gzip
import json
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from genai.data.authors import Authors
from genai.data.mails import Mails
from genai.data.plays import Plays
from genai.data.pydocs import PyDocs
from genai.data.shakespeare import Shakespeare
from genai.data.stdlib_code import StdlibCode
from genai.data.text_files import TextFiles
from genai.data.text_splits import split_documents
from genai.data.token_cache import TextDocument
from genai.data.windows import TokenBatch
from genai.errors import UserError
from genai.models.autoregressive.autoregressive import Autoregressive
from genai.networks.hidden_markov import HiddenMarkov

TEXT = "".join(np.random.default_rng(0).choice(list("abcdefgh \n"), 4000))


@pytest.fixture
def short(tmp_path: Path) -> TextFiles:
    path = tmp_path / "short.txt"
    path.write_text(TEXT)
    return TextFiles(str(path), context_length=16, batch_size=4, seed=3)


def windows(data: TextFiles) -> list[torch.Tensor]:
    return [window for batch in data.train_dataloader() for window in batch.tokens]


def test_the_parts_of_a_text_are_its_splits(short: TextFiles) -> None:
    parts = [short.tokenizer.text(short.split(name).tokens) for name in ("train", "val", "test")]
    assert "".join(parts) == TEXT
    assert [round(len(part) / len(TEXT), 2) for part in parts] == [0.8, 0.1, 0.1]


def test_an_epoch_covers_the_text_once(short: TextFiles) -> None:
    train = np.asarray(short.split("train").tokens)
    starts = []
    for window in windows(short):
        (found,) = (sliding_window_view(train, 17) == window.numpy()).all(axis=1).nonzero()[0]
        starts.append(int(found))
    assert len(set(starts)) == len(starts) > 100
    assert {start % 16 for start in starts} == {starts[0] % 16}
    assert starts != sorted(starts)


def test_evaluation_has_each_token_but_the_first_as_target_once(short: TextFiles) -> None:
    batches = list(short.val_dataloader())
    targets = torch.cat([batch.tokens[:, 1:].flatten() for batch in batches])
    assert targets[targets >= 0].tolist() == np.asarray(short.split("val").tokens)[1:].tolist()
    num_bytes = torch.cat([batch.num_bytes[:, 1:].flatten() for batch in batches])
    assert num_bytes[targets >= 0].eq(1).all()
    assert num_bytes[targets < 0].eq(0).all()


def test_two_ranks_share_the_windows_of_one(short: TextFiles) -> None:
    from types import SimpleNamespace

    def of(world_size: int, rank: int, batch_size: int) -> list[list[int]]:
        data = TextFiles(short.root or "", context_length=16, batch_size=batch_size, seed=3)
        trainer = SimpleNamespace(world_size=world_size, global_rank=rank, current_epoch=1, num_training_batches=10**6)
        data.trainer = trainer  # type: ignore[assignment]
        return [batch.tokens.tolist() for batch in data.train_dataloader()]

    whole, (zero, one) = of(1, 0, 8), (of(2, 0, 4), of(2, 1, 4))
    for batch, a, b in zip(whole, zero, one, strict=False):
        assert sorted(batch) == sorted([*a, *b])


def fitted(data: PyDocs, folder: Path, steps: int, ckpt: Path | None = None) -> tuple[Autoregressive, Path]:
    model = Autoregressive(
        data.vocab_size,
        data.context_length,
        network={"class_path": "genai.networks.hidden_markov.HiddenMarkov", "init_args": {"num_states": 4}},
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(max_steps=steps, accelerator="cpu", limit_val_batches=0, **quiet)
    if ckpt is None:
        torch.manual_seed(0)
        state = {name: torch.randn_like(value) for name, value in model.network.state_dict().items()}
        model.initialise_from(state)
    trainer.fit(model, data, ckpt_path=ckpt, weights_only=True)
    path = folder / f"{steps}.ckpt"
    trainer.save_checkpoint(path)
    return model, path


def test_a_resumed_fit_sees_the_windows_of_an_uninterrupted_one(tmp_path: Path) -> None:
    def data() -> PyDocs:
        return PyDocs(context_length=16, batch_size=2, seed=1)

    whole, _ = fitted(data(), tmp_path, 7)
    _, half = fitted(data(), tmp_path, 3)
    resumed, _ = fitted(data(), tmp_path, 7, half)
    assert resumed.images_seen == whole.images_seen == 7 * 2 * 16
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


def test_a_changed_text_is_not_resumed() -> None:
    data = PyDocs()
    with pytest.raises(UserError, match="has changed"):
        data.load_state_dict({"tokenizer": {"kind": "characters", "characters": "abc", "has_end": True}})


def test_documents_are_whole_in_one_split() -> None:
    documents = [TextDocument(str(i), f"text {i}") for i in range(30)]
    parts = split_documents(documents)
    assert sorted(document for part in parts.values() for document in part) == sorted(documents)
    assert [len(parts[name]) for name in ("train", "val", "test")] == [24, 3, 3]
    assert split_documents(documents[::-1]) == parts
    with pytest.raises(UserError, match="use 3 or more"):
        split_documents(documents[:2], "document")


def test_what_every_python_has() -> None:
    for data in (PyDocs(context_length=32), StdlibCode(context_length=32)):
        data.prepare_data()
        names = [{span.name for span in data.split(name).documents} for name in ("train", "val", "test")]
        assert not names[0] & names[1] | names[0] & names[2] | names[1] & names[2]
        assert len(data.split("train")) > 200_000
        assert isinstance(next(iter(data.train_dataloader())), TokenBatch)
    assert "if" in {span.name for name in ("train", "val", "test") for span in PyDocs().split(name).documents}


def test_shakespeare_is_split_like_nanogpt(tmp_path: Path) -> None:
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare/input.txt").write_text("to be or not " * 100)
    data = Shakespeare(root=str(tmp_path), context_length=8)
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [1170, 130, 130]
    assert np.array_equal(data.split("val").tokens, data.split("test").tokens)


def test_plays_are_split_by_work(tmp_path: Path) -> None:
    folder = tmp_path / "plays/anyone"
    folder.mkdir(parents=True)
    for i in range(5):
        (folder / f"work-{i}.txt").write_text(f"work number {i}, " * 10)
    data = Plays("anyone", root=str(tmp_path), tokens="bytes", context_length=8)
    assert [len(data.split(name).documents) for name in ("train", "val", "test")] == [3, 1, 1]
    assert data.tokenizer.end == 256
    with pytest.raises(UserError, match="no texts in"):
        Plays("nobody", root=str(tmp_path)).prepare_data()


def test_json_lines_and_mails(tmp_path: Path) -> None:
    lines = [json.dumps({"body": f"document {i}"}) for i in range(40)]
    (tmp_path / "many.jsonl").write_text("\n".join(lines))
    data = TextFiles(str(tmp_path / "many.jsonl"), field="body", context_length=4)
    assert [len(data.split(name).documents) for name in ("train", "val", "test")] == [32, 4, 4]
    table = "label,text\n" + "".join(f'spam,"a, {i}"\n' for i in range(30))
    (tmp_path / "mails.csv.gz").write_bytes(gzip.compress(table.encode()))
    mails = Mails(root=str(tmp_path / "mails.csv.gz"), context_length=4)
    assert mails.split("train").documents[0].name.endswith(" spam")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "a.txt is empty"),
        ("a.txt", b"text\0more", "a.txt is binary .byte 4 is 0"),
        ("a.txt", b"caf\xe9 au lait", "a.txt is not UTF-8: byte 3 is 0xe9"),
        ("a.txt", b"short", "a context of 128 needs 129"),
        ("a.jsonl", b'{"text": "fine"}\n{"tex', "a.jsonl, line 2, is not JSON"),
        ("a.jsonl", b'{"body": "fine"}', "line 1, has no text in 'text' .there: body"),
        ("a.pdf", b"%PDF", "has no text files"),
    ],
)
def test_bad_files_are_refused_in_one_line(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        TextFiles(str(tmp_path)).prepare_data()
    assert "\n" not in str(error.value)


def test_a_table_without_its_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mails.csv").write_text("kind,text\nspam,hello\n")
    with pytest.raises(UserError, match=r"no column 'label' \(there: kind, text\)"):
        Mails(root=str(tmp_path / "mails.csv")).prepare_data()


def test_a_network_of_text_needs_no_more_than_two_numbers() -> None:
    assert HiddenMarkov(5, 7, num_states=3)(torch.zeros(1, 2, dtype=torch.long)).shape == (1, 3, 5)


def mails_file(folder: Path, num: int = 60) -> str:
    """A CSV file of mails; those that are spam have an exclamation mark."""
    path = folder / "mails.csv"
    rows = [f'spam,"buy {i}!"' if i % 3 == 0 else f'ham,"letter {i}"' for i in range(num)]
    path.write_text("label,text\n" + "\n".join(rows) + "\n")
    return str(path)


def test_a_labelled_window_is_one_document_from_its_start(tmp_path: Path) -> None:
    data = Mails(root=mails_file(tmp_path), labels=True, context_length=8, batch_size=5)
    end = data.tokenizer.end
    found = list(data.val_dataloader())
    for tokens, num_bytes, labels in zip(*(torch.cat(part) for part in zip(*found, strict=True)), strict=True):
        text = tokens[tokens >= 0]
        assert text[0] == end
        assert len(tokens) == 9
        assert int(num_bytes.sum()) == len(data.tokenizer.text(text))
        assert data.tokenizer.text(text).startswith("buy" if labels == 1 else "letter")
        assert (text[-1] == end) == (len(data.tokenizer.text(text)) < 8)
    assert sum(len(batch.labels) for batch in found) == len(data.split("val").documents) == 6


def test_smaller_training_sets_are_parts_of_larger_ones(tmp_path: Path) -> None:
    file = mails_file(tmp_path)
    names = [
        {span.name for span in Mails(root=file, labels=True, num_train=num, subset_seed=seed).split("train").documents}
        for num, seed in ((10, 0), (20, 0), (10, 1))
    ]
    assert [len(part) for part in names] == [10, 20, 10]
    assert names[0] < names[1]
    assert names[0] != names[2]


def test_a_label_that_is_no_class_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="classes"):
        Mails(root=mails_file(tmp_path), classes=("ham", "virus")).split("train")


def test_authors_have_as_many_lines_each_and_no_work_in_two_splits(tmp_path: Path) -> None:
    for author, lines in (("shakespeare", 30), ("milton", 10)):
        (tmp_path / "plays" / author).mkdir(parents=True)
        for work in range(3):
            text = "".join(f"{author} wrote this line, number {i}\n" for i in range(lines))
            (tmp_path / "plays" / author / f"work{work}.txt").write_text(f"ACT\n{text}")
    data = Authors(root=str(tmp_path))
    works = []
    for split in ("train", "val", "test"):
        spans = data.split(split).documents
        assert sorted(span.name.split()[1] for span in spans) == ["milton"] * 10 + ["shakespeare"] * 10
        works.append({(span.name.split(":")[0], span.name.split()[1]) for span in spans})
    assert sum(map(len, works)) == len(set.union(*works)) == 6


def test_labels_may_have_spaces(tmp_path: Path) -> None:
    path = tmp_path / "mails.csv"
    path.write_text("label,text\n" + "".join(f"{'spam' if i % 3 == 0 else 'not spam'},mail {i}\n" for i in range(60)))
    data = Mails(root=str(path), classes=["not spam", "spam"], labels=True, context_length=16)
    read = {span.label for split in ("train", "val", "test") for span in data.split(split).documents}
    assert read == {"spam", "not spam"}
    for batch in data.val_dataloader():
        texts = [data.tokenizer.text(row[row >= 0]) for row in batch.tokens]
        assert [int(text.split()[1]) % 3 == 0 for text in texts] == (batch.labels == 1).tolist()


def test_three_mails_are_enough(tmp_path: Path) -> None:
    data = Mails(root=mails_file(tmp_path, 3), labels=True, context_length=16)
    assert [len(list(data.val_dataloader())), len(data.split("train").documents)] == [1, 1]


def test_a_long_mail_is_read_and_an_open_quote_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mails.csv"
    path.write_text("label,text\n" + f"spam,{'x' * 200_000}\n" * 3)
    assert len(Mails(root=str(path)).split("train")) == 200_000
    path.write_text('label,text\nspam,"never closed\nham,b\n')
    with pytest.raises(UserError, match="is not CSV"):
        Mails(root=str(path)).prepare_data()
    path.write_text("label,text\nspam,dear friend, buy\nham,b\n")
    with pytest.raises(UserError, match="line 2, has more values than columns"):
        Mails(root=str(path)).prepare_data()


def test_lines_of_compressed_json(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"text": f"line {i}\r\nnext"}) for i in range(30))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    data = TextFiles(str(tmp_path / "a.jsonl.gz"), context_length=4)
    assert len(data.split("train").documents) == 24
    text = data.tokenizer.text(data.split("val").tokens)
    assert "line" in text
    assert "\r" not in text
    assert "{" not in text
