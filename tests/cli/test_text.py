"""The verbs of text models, on one tiny run of Python's reference."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import genai
from genai.cli import main
from genai.cli.options.text import file_texts
from genai.cli.text_likelihood import Units, mean_of
from genai.data.text_files import TextFiles
from genai.errors import UserError
from genai.models.autoregressive.autoregressive import Autoregressive
from genai.networks.transformer import Transformer
from genai.runs import Run, find
from genai.runs.data import data_of
from genai.runs.text import prompt_tokens, tokenizer_of
from genai.training.callbacks.text_evaluation import until
from genai.training.initialisation import initialise
from tests.families import CONFIGS, QUIET

NETWORK = (
    "{class_path: genai.networks.transformer.Transformer, init_args: {dim: 16, depth: 1, num_heads: 2, positions: rotary}}"
)
FIT = ["fit", "-c", str(CONFIGS.parent / "pydocs/gpt.yaml"), *QUIET, "--model.init_args.network", NETWORK]
FIT += ["--trainer.max_steps", "40", "--trainer.val_check_interval", "20", "--trainer.limit_val_batches", "4"]
FIT += ["--data.init_args.context_length", "24"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENAI_RUNS", str(tmp_path_factory.mktemp("runs")))
        assert main(FIT) == 0
        return find("pydocs-gpt")


def test_predict_names_the_verb_for_text(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run.path), "--tracker", "none"]) == 2
    assert "`genai sample RUN` generates text" in capsys.readouterr().err


def test_a_fit_validates_on_its_last_step_and_keeps_the_tokenizer(run: Run) -> None:
    header, *rows = (run.path / "metrics.csv").read_text().splitlines()
    assert header.startswith("tokens_seen,")
    assert rows[-1].startswith(f"{40 * 16 * 24},")
    assert (run.path / "checkpoints/best.ckpt").is_file()
    assert run.record()["vocab_size"] == tokenizer_of(run).vocab_size
    model = genai.load(run)
    assert (model.vocab_size, model.context_length) == (run.record()["vocab_size"], 24)


def test_samples_are_printed_and_do_not_depend_on_their_number(run: Run, capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    options = ["--prompt", "The ", "--tokens", "30", "--temperature", "0.8", "--top-k", "20", "--top-p", "0.9"]
    assert main(["sample", str(run.path), *options]) == 0
    one = capsys.readouterr().out
    assert one.startswith("The ")
    assert main(["sample", str(run.path), *options, "--num", "3", "--out", str(tmp_path / "three.txt")]) == 0
    three = capsys.readouterr().out
    assert f"--- seed 0, sample 0 ---\n{one}--- seed 0, sample 1 ---\nThe " in three
    assert (tmp_path / "three.txt").read_text() == three.rpartition("wrote ")[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "naïve"], "does not know the character 'ï' (at position 2)"),
        (["--label", "3"], "--label has no effect on a"),
        (["--out", "a.png"], "should end in .txt"),
        (["--top-p", "2"], "0 < top_p <= 1"),
    ],
)
def test_what_does_not_fit_text_is_one_line(run: Run, options: list[str], message: str, capsys, workspace: Path) -> None:
    assert main(["sample", str(run.path), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_options_of_text_do_not_fit_images(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    for verb in (["sample", "zoo/mnist-gan", "--tokens", "9"], ["likelihood", "zoo/mnist-vae", "a.txt"]):
        assert main(verb) == 2
        assert "leave" in capsys.readouterr().err
    assert main(["tokens", "zoo/mnist-gan", "--prompt", "a"]) == 2
    assert "cannot predict text" in capsys.readouterr().err


def test_the_likelihood_of_a_file_and_of_a_split(run: Run, capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    Path("mine.txt").write_text("The import statement binds a name.\n" * 4)
    assert main(["likelihood", str(run.path), "mine.txt", "--stride", "8"]) == 0
    assert "mine.txt: 139 tokens, 139 bytes" in capsys.readouterr().out
    assert main(["likelihood", str(run.path), "--split", "val"]) == 0
    out = capsys.readouterr().out
    assert "documents" in out
    nats, error = json.loads((run.path / "metrics.json").read_text())["likelihood"]["nats_per_character"]
    assert 1 < nats < 4.6
    assert 0 < error < 0.5
    assert main(["likelihood", str(run.path), "none.txt"]) == 2
    assert main(["likelihood", str(run.path), "--stride", "99"]) == 2


def test_nats_of_a_unit_are_a_ratio_with_its_standard_error() -> None:
    generator = np.random.default_rng(0)
    size = generator.uniform(50, 150, 400)
    units = Units(2 * size + generator.normal(0, 10, 400), size, size, size)
    ratio, error = mean_of(units, "tokens")
    assert ratio == pytest.approx(2, abs=4 * error)
    assert error == pytest.approx(10 / 100 / 20, rel=0.1)  # of a mean of 400 residuals of 10, over 100 tokens each


def test_tokens_writes_a_table_and_two_pictures(run: Run, capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    assert main(["tokens", str(run.path), "--prompt", "def f", "--out", "t.png"]) == 0
    out = capsys.readouterr().out
    assert "<start>" in out
    assert Path("t.png").is_file()
    assert Path("t-attention.png").is_file()
    assert main(["tokens", str(run.path), "--prompt", "a" * 50]) == 2


def test_the_test_verb_scores_text(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", str(run.path), *QUIET, "--evaluation.num_samples", "2", "--trainer.limit_test_batches", "2"]) == 0
    out = capsys.readouterr().out
    assert "bits per byte" in out
    content = json.loads((run.path / "metrics.json").read_text())["test"]
    assert (
        set(content["scores"])
        == set(content["floor"])
        == {
            "bits_per_byte",
            "nats_per_token",
            "distinct_ngrams",
            "longest_shared",
        }
    )
    assert content["floor"]["longest_shared"] > 5
    assert content["protocol"]["num_samples"] == 2
    assert content["protocol"]["num_tokens"] == len(data_of(run).split("test"))  # as in entries of the zoo, to be comparable


def test_a_prompt_begins_after_the_end_of_a_document(run: Run) -> None:
    tokenizer = tokenizer_of(run)
    assert prompt_tokens("if", tokenizer).tolist() == [tokenizer.end, *tokenizer.encode("if").tolist()]
    assert torch.equal(prompt_tokens(None, tokenizer), torch.tensor([tokenizer.end]))


def test_samples_of_one_file_are_detected_one_by_one(run: Run, capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    sample = ["sample", str(run.path), "--tokens", "60", "--num", "3", "--watermark", "key", "--out", "a.txt"]
    assert main(sample) == 0
    capsys.readouterr()
    main(["detect", "a.txt", "--run", str(run.path), "--key", "key"])
    found = capsys.readouterr()
    assert "a.txt:2" in found.out
    assert found.err == ""
    assert main(["likelihood", str(run.path), "a.txt"]) == 0
    text = capsys.readouterr().out
    samples = file_texts("a.txt", tokenizer_of(run))
    assert f"a.txt: {sum(len(sample) - 1 for sample in samples)} tokens" in text  # each sample is a text of its own
    assert "of 3 documents" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--temperature", "0", "--top-k", "3"], "--top-k has no effect on --temperature 0"),
        (["--temperature", "0", "--top-p", "0.9"], "--top-p has no effect on --temperature 0"),
        (["--force"], "--force has no effect without --out"),
        (["--prompt", "\udcff"], "the prompt is not UTF-8"),
    ],
)
def test_options_of_text_without_effect(run: Run, options: list[str], message: str, capsys, workspace: Path) -> None:
    assert main(["sample", str(run.path), *options]) == 2
    assert message in capsys.readouterr().err


def test_dollars_are_printed_as_they_are(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    assert main(["tokens", "zoo/shakespeare-gpt", "--prompt", "a$b"]) == 0
    out = capsys.readouterr().out
    assert "$" in out
    assert "\\$" not in out


def test_documents_are_scored_as_in_training(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = [
        "fit",
        "--model",
        "NGram",
        "--model.init_args.order",
        "4",
        "--data",
        "Sums",
        "--data.init_args.num_sums",
        "600",
        *QUIET,
    ]
    assert main([*fit, "--experiment", "sums", "--trainer.max_epochs", "1", "--best_metric", "val/loss"]) == 0
    path = find("sums").path
    assert main(["test", str(path), *QUIET, "--evaluation.num_samples", "8"]) == 0
    capsys.readouterr()
    assert main(["likelihood", str(path)]) == 0
    of_split = capsys.readouterr().out
    assert "its first" in of_split
    part, tokenizer = data_of(find("sums")).split("test"), tokenizer_of(find("sums"))
    texts = [tokenizer.text(part.tokens[span.start : span.stop]) for span in part.documents]
    Path("sums.txt").write_text("".join(f"--- seed 0, sample {i} ---\n{text}\n" for i, text in enumerate(texts)))
    assert main(["likelihood", str(path), "sums.txt"]) == 0
    of_file = capsys.readouterr().out
    assert of_file.replace("sums.txt:", "sums/test:").split("; ")[0] == of_split.split("; ")[0]  # all but the seconds
    Path("one.txt").write_text(texts[0])
    assert main(["likelihood", str(path), "one.txt"]) == 0
    assert f"{len(texts[0]) + 1} tokens" in capsys.readouterr().out  # with the end of the document
    content = json.loads((path / "metrics.json").read_text())
    assert content["likelihood"]["nats_per_token"][0] == pytest.approx(content["test"]["scores"]["nats_per_token"])
    assert content["test"]["protocol"]["num_tokens"] > 100
    assert main(["likelihood", str(path), "--stride", "2"]) == 2
    assert "--stride has no effect" in capsys.readouterr().err


def test_samples_end_with_their_document() -> None:
    assert until([1, 2, 9, 3], 9) == [1, 2]
    assert until([1, 2], 9) == until([1, 2], None) == [1, 2]


def test_weights_of_other_tokens_are_refused(workspace: Path) -> None:
    text = "".join(chr(1000 + i) for i in range(65)) * 40
    Path("other.txt").write_text(text)
    data = TextFiles("other.txt", tokens="characters", context_length=64)
    model = Autoregressive(65, 64, network=Transformer)
    with pytest.raises(UserError, match="another tokenizer"):
        initialise(model, data, "zoo/shakespeare-gpt", ())
