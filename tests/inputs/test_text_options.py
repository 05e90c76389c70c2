"""Options of text data that would use other text than the user means."""

import json
from pathlib import Path

import pytest
import torch

from genai.cli import main
from genai.data.mails import Mails
from genai.data.plays import Plays
from genai.data.pydocs import PyDocs
from genai.data.stdlib_code import StdlibCode
from genai.data.text_files import TextFiles
from genai.errors import UserError
from genai.networks.recurrent import LSTM
from genai.runs import find


@pytest.mark.parametrize("data", [PyDocs, StdlibCode])
def test_a_folder_for_data_that_come_with_python_is_refused(data: type) -> None:
    with pytest.raises(UserError, match="add --data TextFiles for mine"):
        data(root="mine.txt")


def test_blank_documents_are_left_out(workspace: Path) -> None:
    rows = [json.dumps({"text": f"line {i} of words" if i % 2 else "  \n"}) for i in range(60)]
    Path("mine.jsonl").write_text("\n".join(rows))
    data = TextFiles("mine.jsonl", context_length=8)
    data.prepare_data()
    assert sum(len(data.split(name).documents) for name in ("train", "val", "test")) == 30


def test_copies_of_a_document_in_two_splits_are_counted(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.jsonl").write_text("\n".join([json.dumps({"text": "the same words"})] * 40))
    TextFiles("mine.jsonl", context_length=8).prepare_data()
    assert "8 documents of val and test are exact copies" in capsys.readouterr().err


def test_an_unknown_way_to_split_is_refused(workspace: Path) -> None:
    Path("mine.txt").write_text("some words\n" * 100)
    with pytest.raises(UserError, match="split_by 'pages' is not known: use auto, document, position"):
        TextFiles("mine.txt", split_by="pages", context_length=8).prepare_data()  # type: ignore[arg-type]


def test_a_class_is_named_once() -> None:
    with pytest.raises(UserError, match="named twice"):
        Mails(classes=["spam", "ham", "spam"], labels=True)


def test_works_in_upper_case_are_found(workspace: Path) -> None:
    folder = Path("data/plays/me")
    folder.mkdir(parents=True)
    for i in range(4):
        (folder / f"work{i}.TXT").write_text(f"work {i} has some words\n" * 40)
    assert len(Plays("me", root="data").files()) == 4


@pytest.mark.slow
def test_text_that_has_changed_since_the_training_is_named(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.txt").write_text("some words of mine\n" * 200)
    fit = ["fit", "-c", "pydocs/hmm", "--data", "TextFiles", "--data.init_args.root", "mine.txt", "--tracker", "csv"]
    short = ["--data.init_args.context_length", "16", "--trainer.max_steps", "2", "--trainer.val_check_interval", "2"]
    assert main([*fit, *short, "--experiment", "one", "--evaluation.num_samples", "2"]) == 0
    assert main(["test", "one", "--evaluation.num_samples", "2"]) == 0
    assert main(["likelihood", "one"]) == 0
    assert "differ from" not in capsys.readouterr().err
    Path("mine.txt").write_text("other words, of somebody else\n" * 200)
    assert main(["test", "one", "--evaluation.num_samples", "2"]) == 0
    assert "differ from those of the training" in capsys.readouterr().err
    assert main(["likelihood", "one"]) == 0
    assert "differ from those of the training" in capsys.readouterr().err


def test_n_grams_are_counted_once(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["fit", "-c", "pydocs/ngram", "--tracker", "csv", "--evaluation.num_samples", "2", "--experiment", "one"]
    assert main([*fit, "--trainer.max_epochs", "2"]) == 2
    assert "counts the text once: use --trainer.max_epochs 1" in capsys.readouterr().err
    assert main([*fit, "--trainer.max_steps", "3"]) == 0
    output = capsys.readouterr().out
    batch_size, context_length = (find("one").config()["data"]["init_args"][name] for name in ("batch_size", "context_length"))
    assert f"{3 * batch_size * context_length:,} tokens" in output
    assert "continue it" not in output


def test_an_lstm_trains_in_bfloat16_on_any_processor() -> None:
    network = LSTM(vocab_size=5, context_length=8, dim=8)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.zeros(2, 8, dtype=torch.int64))
    logits.float().sum().backward()
    assert logits.shape == (2, 9, 5)
