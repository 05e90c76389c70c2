"""The command line, end to end."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import genai
from genai import runs
from genai.cli import main

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "configs/digits/gan.yaml")
QUICK = ["--tracker", "none", "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
QUICK += ["--trainer.precision", "32"]  # bfloat16 is slow on many processors
TINY = [
    *QUICK,
    "--trainer.log_every_n_steps",
    "5",
    "--trainer.max_epochs",
    "2",
    "--evaluation.num_samples",
    "100",
    "--evaluation.every_n_epochs",
    "1",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GAN trained for two epochs, and tested."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENAI_RUNS", str(folder / "runs"))
        assert main(["fit", "-c", DIGITS, "--experiment", "tiny", *TINY]) == 0
        run = runs.find("tiny")
        assert main(["test", str(run.path), *QUICK, "--evaluation.num_samples", "100"]) == 0
    return run.path


def test_a_mistyped_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tset"]) == 2
    assert capsys.readouterr().err == "genai: there is no verb `tset`: did you mean `test`?\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "-c", "configs/nope.yaml"], "there is no file configs/nope.yaml"),
        (["fit", "-c", DIGITS, "--trainer.maxepochs", "3"], "did you mean `trainer.max_epochs`"),
        (["fit", "-c", DIGITS, "--trainer.precision", "16-mixed", "--trainer.accelerator", "cpu"], "bf16-mixed"),
        (["fit", "-c", DIGITS, "--model.init_args.objective", "genai.models.gan.objectives.Nope"], "Nope"),
        (["fit", "-c", DIGITS, "--data.class_path", "genai.data.digits.Digit"], "did you mean `genai.data.digits.Digits`?"),
        (
            ["fit", "-c", DIGITS, "--model.init_args.resampling", '{"num_candidates": 0}'],
            "num_candidates 0 is out of range: use 1 or more",
        ),
        (["fit", "--resume", "nowhere"], "there is no run `nowhere`"),
        (["test"], "--help"),
        (["test", "nowhere"], "there is no run `nowhere`"),
        (["sample", "nowhere"], "there is no run `nowhere`"),
        (["sample", "--num", "4"], "the following arguments are required: RUN"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], words: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(arguments)
    captured = capsys.readouterr()
    assert words in captured.err + captured.out
    if status:
        assert captured.err.count("\n") == 1
        assert captured.err.startswith("genai: ")
    assert not (workspace / "runs").exists()


@pytest.mark.slow
def test_printed_config_is_a_valid_config(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for config in (DIGITS, "printed.yaml"):
        with pytest.raises(SystemExit) as exit_info:
            main(["fit", "-c", config, "--print_config"])
        assert exit_info.value.code == 0
        texts.append(capsys.readouterr().out)
        Path("printed.yaml").write_text(texts[-1])
    first, second = map(yaml.safe_load, texts)
    first.pop("experiment"), second.pop("experiment")
    assert first == second
    assert main(["fit", "-c", "printed.yaml", *TINY, "--trainer.fast_dev_run", "true"]) == 0


@pytest.mark.slow
def test_the_run_directory_describes_itself(trained: Path) -> None:
    assert {"config.yaml", "run.json", "metrics.csv", "metrics.json", "checkpoints", "samples"} <= {
        path.name for path in trained.iterdir()
    }
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    assert [path.name for path in sorted((trained / "samples").glob("epoch-*.png"))] == [
        "epoch-0001.png",
        "epoch-0002.png",
    ]
    record = runs.Run(trained).record()
    assert record["image_shape"] == [1, 8, 8]
    assert record["num_classes"] == 10
    test = runs.Run(trained).scores()["test"]
    assert test["scores"]["fid"] > 3 * test["floor"]["fid"] > 0
    assert test["protocol"]["split"] == "test"
    assert test["protocol"]["num_samples"] == 100


def test_load_gives_the_averaged_model_in_eval_mode(trained: Path) -> None:
    model = genai.load(trained, "last")
    assert not model.training
    assert model.images_seen > 0
    checkpoint = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    weights = checkpoint["state_dict"]["averaged.network.layers.0.weight"]
    assert torch.equal(model.averaged.network.layers[0].weight, weights)
    assert model.sample([0, 1]).shape == (2, 1, 8, 8)


def test_samples_depend_on_their_seed_and_say_what_they_are(trained: Path, workspace: Path) -> None:
    for num in ("8", "64"):
        assert main(["sample", str(trained), "--num", num, "--seed", "5", "--out", f"{num}.npz"]) == 0
    few, many = np.load("8.npz")["images"], np.load("64.npz")["images"]
    assert few.dtype == np.uint8
    assert many.shape == (64, 8, 8)
    assert np.array_equal(few, many[:8])
    assert main(["sample", str(trained), "--num", "4", "--seed", "5", "--out", "folder/"]) == 0
    for i, path in enumerate(sorted(Path("folder").iterdir())):
        picture = Image.open(path)
        assert np.array_equal(np.asarray(picture), many[i])
        assert picture.text["Source"] == "generated by a model"
        assert {"Software", "Model", "Run", "Seed", "Index"} <= set(picture.text)


def test_nothing_is_overwritten(trained: Path, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.png").write_text("dear to me")
    assert main(["sample", str(trained), "--out", "mine.png"]) == 2
    assert "--force" in capsys.readouterr().err
    assert Path("mine.png").read_text() == "dear to me"
    for _ in range(2):
        assert main(["sample", str(trained), "--num", "4"]) == 0
    written = [line.split()[-1] for line in capsys.readouterr().out.splitlines()]
    assert len(set(written)) == 2


def test_samples_of_an_earlier_command_do_not_stay_among_those_of_a_later_one(
    trained: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(trained), "--num", "5", "--out", "folder/"]) == 0
    for name in ("mine", "00009"):
        Image.new("L", (8, 8)).save(f"folder/{name}.png")
    assert main(["sample", str(trained), "--num", "2", "--out", "folder/", "--force"]) == 0
    assert sorted(path.name for path in Path("folder").iterdir()) == ["00000.png", "00001.png", "00009.png", "mine.png"]
    errors = capsys.readouterr().err
    assert "removed 3 samples of an earlier command" in errors
    assert "holds 2 other pictures, such as 00009.png" in errors


def test_labels_are_for_conditional_models(trained: Path, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(trained), "--label", "4"]) == 2
    assert "unconditional" in capsys.readouterr().err


def test_runs_lists_scores_with_floors(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GENAI_RUNS", str(trained.parent.parent))
    assert main(["runs", "tiny"]) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[1].split()[0] == f"tiny/{trained.name}"
    assert output[2].split()[0] == "floor"
    assert max(map(len, output)) <= 80


@pytest.mark.slow
def test_scores_with_other_options_than_the_config_say_so(
    trained: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained, Path("runs/tiny/one"))
    curve = (run / "metrics.csv").read_text()
    option = ["--model.init_args.resampling", '{"num_candidates": 2}']
    assert main(["test", "tiny", *QUICK, "--evaluation.num_samples", "100", *option]) == 0
    assert (run / "metrics.csv").read_text() == curve  # which stays the one of the model as it is
    assert json.loads((run / "metrics.json").read_text())["test"]["overrides"] == ["=".join(option)]
    capsys.readouterr()
    assert main(["runs", "tiny"]) == 0
    assert "tiny/one *" in capsys.readouterr().out
    assert main(["export", "tiny", "zoo/tiny"]) == 2
    assert "tested with --model.init_args.resampling" in capsys.readouterr().err
    assert main(["test", "tiny", *QUICK, "--evaluation.num_samples", "100"]) == 0
    assert json.loads((run / "metrics.json").read_text())["test"]["overrides"] == []
    assert "test/fid" in (run / "metrics.csv").read_text()


def test_filmstrip_lays_epochs_side_by_side(trained: Path, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["filmstrip", str(trained), "--epochs", "1,2", "--out", "strip.png"]) == 0
    single = Image.open(trained / "samples/epoch-0001.png")
    assert Image.open("strip.png").width > 2 * single.width
    assert main(["filmstrip", str(trained), "--out", "strip.gif"]) == 0
    assert Image.open("strip.gif").n_frames == len(list((trained / "samples").glob("epoch-*.png")))
    assert main(["filmstrip", str(trained), "--epochs", "1,60", "--out", "b.png"]) == 2
    assert "no sample grid of epoch 60" in capsys.readouterr().err


@pytest.mark.slow
def test_a_second_fit_leaves_the_first_alone(workspace: Path) -> None:
    fit = ["fit", "-c", DIGITS, *TINY, "--trainer.max_epochs", "1", "--evaluation.every_n_epochs", "0"]
    fit += ["--trainer.limit_train_batches", "2"]
    assert main(fit) == 0
    before = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    assert main(fit) == 0
    assert len(list(Path("runs/digits-gan").iterdir())) == 2
    assert {path: path.read_bytes() for path in before} == before


def test_predict_writes_one_image_per_test_picture(trained: Path) -> None:
    assert main(["predict", str(trained), *QUICK]) == 0
    images = np.load(trained / "predictions.npz")["images"]
    assert images.dtype == np.uint8
    assert len(images) > 300


def test_a_crafted_config_or_checkpoint_runs_no_code(trained: Path, workspace: Path) -> None:
    import pickle
    import shutil

    from genai.errors import UserError

    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (workspace / "owned",))

    copy = workspace / "runs/e/copy"
    shutil.copytree(trained, copy)
    (copy / "checkpoints/best.ckpt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="damaged or not a checkpoint"):
        genai.load(copy)
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["model"]["class_path"] = "subprocess.Popen"
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="not among the classes of genai and torch"):
        genai.load(copy)
    assert not (workspace / "owned").exists()


def test_bytes_that_are_no_checkpoint_are_a_users_mistake(
    trained: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`junk` is a pickle for torch, of an object that it has not read before."""
    Path("junk.ckpt").write_bytes(b"junk\n")
    assert main(["sample", str(trained), "--checkpoint", "junk.ckpt"]) == 2
    assert "junk.ckpt is damaged or not a checkpoint of ours" in capsys.readouterr().err


def test_a_zoo_entry_has_no_checkpoint_to_choose(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "zoo/mnist-gan", "--checkpoint", "epoch=3"]) == 2
    assert "leave --checkpoint epoch=3 out" in capsys.readouterr().err
    assert main(["filmstrip", "zoo/mnist-gan"]) == 2
    assert "no sample grids of its epochs" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["runs", "sample"])
def test_ctrl_c_elsewhere_ends_in_one_line(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(arguments: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"genai.cli.verbs.{verb}.run", interrupted)
    assert main([verb]) == 130
    assert capsys.readouterr().err == "genai: interrupted\n"


def test_a_checkpoint_of_another_model_is_named(trained: Path, workspace: Path) -> None:
    import shutil

    from genai.errors import UserError

    copy = workspace / "runs/e/copy"
    shutil.copytree(trained, copy)
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["model"]["init_args"]["generator"]["init_args"]["latent_dim"] = 11
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="checkpoint of another model"):
        genai.load(copy)


def test_metrics_csv_has_images_seen_as_its_axis(trained: Path) -> None:
    import csv

    with (trained / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    seen = [int(row["images_seen"]) for row in rows]
    assert seen == sorted(set(seen))
    assert any(row["train/generator_loss"] for row in rows)
    assert any(row["val/fid"] for row in rows)
    assert json.loads((trained / "run.json").read_text())["tracker_id"]


@pytest.mark.slow
def test_a_conditional_model_samples_the_given_labels(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*TINY, "--trainer.max_epochs", "1", "--evaluation.every_n_epochs", "0", "--model.init_args.conditional", "true"]
    options += ["--trainer.limit_train_batches", "2"]
    assert main(["fit", "-c", DIGITS, *options]) == 0
    assert main(["sample", "digits-gan", "--label", "all", "--per-label", "3", "--out", "all.npz"]) == 0
    assert np.load("all.npz")["labels"].tolist() == [label for label in range(10) for _ in range(3)]
    capsys.readouterr()
    assert main(["sample", "digits-gan", "--label", "4,7", "--per-label", "3", "--out", "grid.png"]) == 0
    assert capsys.readouterr().out == "wrote grid.png (rows: 4, 7)\n"
    assert main(["sample", "digits-gan", "--label", "4,7", "--num", "5", "--out", "some.npz"]) == 0
    assert np.load("some.npz")["labels"].tolist() == [4, 7, 4, 7, 4]
    assert main(["sample", "digits-gan", "--label", "ten", "--out", "no.npz"]) == 2
    assert "there is no class 'ten'" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_a_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(ROOT / "zoo/mnist-gan"), "--device", "cuda", "--out", "grid.png"]) == 2
    assert "try --device cpu" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_fit_on_a_gpu_that_is_not_there_leaves_nothing(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "-c", DIGITS, "-c", str(ROOT / "configs/trainer/gpu.yaml"), *QUICK]) == 2
    assert "add -c configs/trainer/cpu.yaml" in capsys.readouterr().err
    assert not (workspace / "runs").exists()


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_the_run_of_a_gpu_is_tested_and_resumed_on_a_cpu(
    trained: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = workspace / "runs/of-a-gpu/2026-01-01_00-00-00"
    shutil.copytree(trained, copy)
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["trainer"] |= {"accelerator": "gpu", "devices": 8, "num_nodes": 2, "strategy": "ddp", "precision": "16-mixed"}
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["validate", str(copy), "--evaluation.num_samples", "50"]) == 0
    assert "using one CPU process and float32" in capsys.readouterr().err
    assert main(["fit", "--resume", str(copy), "--trainer.max_epochs", "3", "--evaluation.num_samples", "50"]) == 0
