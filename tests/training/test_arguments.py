"""What a user types, and what LightningCLI gets."""

from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from genai.cli import main
from genai.cli.trainer_help import VERB_HELP
from genai.errors import UserError
from genai.training.arguments import condense, experiment_name, model_options, own_parser, parse, resolve
from genai.training.lightning_cli import GenaiCLI
from tests.families import CONFIGS, family

GAN = str(CONFIGS / "gan.yaml")


@pytest.mark.parametrize("words", [["-c", GAN], [f"-c{GAN}"], [f"-c={GAN}"], ["--config", GAN], [f"--config={GAN}"]])
def test_every_way_to_name_a_config_names_the_experiment(words: list[str]) -> None:
    assert resolve("fit", parse(words)).arguments[-2:] == ["--experiment", "digits-gan"]
    with pytest.raises(UserError, match=r"there is no file nope.yaml"):
        parse([word.replace(GAN, "nope.yaml") for word in words])


def test_a_config_may_name_its_experiment(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for content, expected in (("experiment: thesis", "thesis"), ("experiment: null", None)):
        path.write_text(f"{content}\n")
        request = parse(["-c", GAN, "-c", str(path)])
        assert request.experiment == expected
        assert ("--experiment" in resolve("fit", request).arguments) == (expected is None)
    assert parse(["-c", str(path), "--experiment", "other"]).experiment == "other"


@pytest.mark.parametrize("words", [["-c", GAN], [f"-c{GAN}"], [f"-c={GAN}"], ["--config", GAN], [f"--config={GAN}"]])
def test_lightning_reads_every_one_of_them(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", *words, "--print_config"])
    assert "genai.networks.mlp.MLPGenerator" in capsys.readouterr().out


def test_our_own_flags_are_taken_out_and_the_others_keep_their_order() -> None:
    words = ["RUN", "--trainer.max_epochs", "3", "--trust=a", "--checkpoint", "last", "-c", GAN, "--trust", "b", "--x=--y"]
    request = parse(words)
    assert (request.run, request.checkpoint, request.trust) == ("RUN", "last", ("a", "b"))
    assert request.rest == ("--trainer.max_epochs", "3", "-c", GAN, "--x=--y")
    assert request.configs == (GAN,)
    assert parse(["--experiment=mine", "-c", GAN]).experiment == "mine"
    assert "--experiment" not in resolve("fit", parse(["--experiment=mine", "-c", GAN])).arguments[:1]
    assert parse(["--ckpt_path", "x"]).has_ckpt_path


@pytest.mark.parametrize("words", [["--resume"], ["--trust"], ["-c"]])
def test_a_flag_without_its_value_is_a_users_mistake(words: list[str]) -> None:
    with pytest.raises(UserError, match="expected one argument"):
        parse(words)


def test_the_name_of_an_experiment() -> None:
    assert experiment_name("configs/mnist/gan.yaml") == "mnist-gan"
    assert experiment_name("/a/configs/faces/vae.yaml") == "faces-vae"
    assert experiment_name("mine.yaml") == "mine"


def test_options_of_the_model() -> None:
    words = ["--model.a", "1", "--trainer.x", "2", "--model.b=3"]
    assert model_options(words) == ["--model.a=1", "--model.b=3"]


@pytest.mark.parametrize(
    ("option", "named"),
    [("--optimizer", "--model.init_args.optimizer"), ("--lr_scheduler", "--model.init_args.lr_schedule")],
)
def test_an_optimiser_is_an_option_of_the_model(
    option: str, named: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([option, "SGD"], [f"{option}=SGD"], [f"{option}.lr=1"]):
        assert main(["fit", "-c", GAN, *words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert named in error
    assert not list(workspace.iterdir())


def test_an_unknown_option_names_the_nearest() -> None:
    assert "did you mean `trainer.max_epochs`?" in condense("Key 'trainer.maxepochs' is not expected", ["trainer.max_epochs"])


def test_a_missing_module_of_a_function_is_named() -> None:
    line = "Parser key \"model\": Type Any expects a function or a callable class: No module named 'mine'. Got value: mine.dark"
    assert condense(line, []) == "there is no module mine: install it, or add its folder to PYTHONPATH"


def test_fit_takes_no_run(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits-gan"]) == 2
    assert "--resume RUN" in capsys.readouterr().err


@pytest.mark.slow
def test_no_option_is_a_prefix_of_torchruns() -> None:
    """torchrun takes a prefix of its own options for them, even after the name of the script.

    It starts the verbs that train or score on several devices. The other verbs have one process, so their options are free:
    `--num` of `genai sample` is a prefix of `--numa-binding`.
    """
    theirs = {name for action in get_args_parser()._actions for name in action.option_strings}
    assert "--nproc-per-node" in theirs
    for verb in VERB_HELP:
        cli = GenaiCLI(verb, [*family("gan"), "--trainer.fast_dev_run", "1"])
        parsers = (cli._parser(verb), own_parser())
        ours = {name for parser in parsers for action in parser._actions for name in action.option_strings} | {"--help-all"}
        assert {"--trust", "--resume", "--checkpoint", "--evaluation.num_samples"} <= ours, verb
        prefixes = {name for name in ours for other in theirs if len(name) > 2 and other.startswith(name)}
        assert prefixes == {"--help"}, verb
