"""genai vary, inpaint, upscale, diffuse, and the sampler options of genai sample; on tiny untrained models."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import genai
from genai.cli import main
from genai.cli.options.run import LoadedRun
from genai.cli.options.sampling import SamplerOptions
from genai.data.avatars import Avatars
from genai.data.base import ImageDataModule
from genai.data.digits import Digits
from genai.errors import UserError
from genai.images import to_float, to_uint8
from genai.models.diffusion.conditioning_image import Downsampled, Masked
from genai.models.diffusion.samplers import SAMPLERS
from genai.models.diffusion.sampling import Sampling
from genai.runs import FORMAT, write_json
from genai.runs.loading import build_model
from genai.training.record import label_record

GAN = "zoo/mnist-gan"
FAMILY = "genai.models.diffusion"
NETWORK = {"channels": [16, 16], "num_blocks": 1, "embedding_dim": 16, "head_dim": 8}
TEXT = {"conditioner": {"class_path": "genai.networks.conditioning.TextConditioner"}}


def make_run(
    folder: Path, data: ImageDataModule, data_args: dict[str, Any], network: dict[str, Any] | None = None, **init_args: Any
) -> Path:
    """A run of a tiny diffusion model with random weights, which samples in four steps; returns its folder."""
    network_section = {"class_path": "genai.networks.unet.UNet", "init_args": NETWORK | (network or {})}
    settings = {"network": network_section, "sampling": {"steps": 4}} | init_args
    config = {
        "model": {"class_path": f"{FAMILY}.diffusion.Diffusion", "init_args": settings},
        "data": {"class_path": f"{type(data).__module__}.{type(data).__name__}", "init_args": data_args},
    }
    record = {"format": FORMAT, "image_shape": list(data.image_shape), "num_classes": data.num_classes, "images_seen": 0}
    record |= {"class_names": list(data.class_names), **label_record(data)}
    torch.manual_seed(0)
    model = build_model(config, record)
    for parameter in model.averaged.parameters():  # the last layers are zero at first
        parameter.data.normal_(0, 0.1)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    write_json(folder / "run.json", record)
    torch.save({"state_dict": model.state_dict(), "images_seen": 0}, folder / "checkpoints/last.ckpt")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of digits: plain, of classes, with a conditioning image, of six pixels; of faces with attributes or words."""
    folder = tmp_path_factory.mktemp("runs")
    digits = Digits()
    make_run(folder / "plain/one", digits, {})
    make_run(folder / "classes/one", digits, {}, conditional=True)
    based = {"network": {"conditioning_channels": 2}}
    make_run(folder / "upscaler/one", digits, {}, **based, conditioning_image=section(Downsampled, factors=[2]))
    make_run(folder / "inpainter/one", digits, {}, **based, conditioning_image=section(Masked))
    make_run(folder / "six/one", Digits(size=6), {"size": 6})
    for labels, network in (("attributes", None), ("captions", TEXT)):
        faces = {"size": 8, "num_images": 60, "labels": labels}
        make_run(folder / f"{labels}/one", Avatars(**faces), faces, network, conditional=True)
    return folder


@pytest.fixture
def place(runs: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; `plain` and its like name the runs."""
    monkeypatch.setenv("GENAI_RUNS", str(runs))
    return workspace


def section(kind: type, **init_args: Any) -> dict[str, Any]:
    return {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": init_args}


def done(*arguments: str) -> Image.Image:
    """The picture `out.png` that a command writes."""
    assert main([*arguments, "--out", "out.png", "--force"]) == 0
    return Image.open("out.png")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that says why a command does nothing."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("genai: ")
    return error


def tiles(picture: Image.Image, size: int = 8) -> np.ndarray:
    """The images of a grid, uint8 (rows, columns, size, size[, 3])."""
    factor = -(-56 // size)
    pitch = factor * size + 2
    pixels = np.asarray(picture)
    pixels = pixels[..., 0] if (pixels == pixels[..., :1]).all() else pixels  # grey, in three channels
    assert (pixels.shape[0] - 2) % pitch == (pixels.shape[1] - 2) % pitch == 0
    rows, columns = ((side - 2) // pitch for side in pixels.shape[:2])
    starts = [(2 + i * pitch, 2 + j * pitch) for i in range(rows) for j in range(columns)]
    cut = [pixels[y : y + factor * size : factor, x : x + factor * size : factor] for y, x in starts]
    return np.stack(cut).reshape(rows, columns, *cut[0].shape)


def test_images(*numbers: int) -> Tensor:
    """Test digits, uint8 (N, 1, 8, 8)."""
    return torch.from_numpy(np.asarray(Digits().split("test").images[list(numbers)]))


test_images.__test__ = False  # type: ignore[attr-defined]


# -- vary ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_variations_stand_beside_their_picture(place: Path) -> None:
    picture = done("vary", "plain", "test/3", "test/7", "--num", "4", "--seed", "5")
    grid = tiles(picture)
    assert grid.shape == (2, 5, 8, 8)
    assert np.array_equal(grid[:, 0], test_images(3, 7)[:, 0])
    assert len({tile.tobytes() for tile in grid.reshape(10, 64)}) == 10
    said = {"Model": "Diffusion", "Run": "plain/one", "Seed": "5", "Verb": "vary", "Source": "generated by a model"}
    assert said.items() <= picture.text.items()
    assert "Label" not in picture.text


def test_strength_zero_keeps_the_picture_and_one_forgets_it(place: Path) -> None:
    grid = tiles(done("vary", "plain", "test/3", "--num", "2", "--strength", "0"))
    assert np.array_equal(grid[0, 1:], np.stack([grid[0, 0]] * 2))
    one, other = (tiles(done("vary", "plain", name, "--num", "2", "--strength", "1"))[0, 1:] for name in ("test/0", "test/9"))
    assert np.abs(one.astype(int) - other).max() <= 2  # what the image adds to noise of sigma 80


def test_a_variation_depends_on_the_seed_and_its_number_only(place: Path) -> None:
    first = tiles(done("vary", "plain", "test/0", "--num", "2"))
    assert np.array_equal(first, tiles(done("vary", "plain", "test/0", "--num", "2")))
    assert np.array_equal(first, tiles(done("vary", "plain", "test/0", "--num", "3"))[:, :3])
    assert not np.array_equal(first, tiles(done("vary", "plain", "test/0", "--num", "2", "--seed", "1")))


def test_pictures_come_from_files_of_any_size(place: Path) -> None:
    digit = test_images(4)[0, 0].numpy()
    Image.fromarray(digit).save("same.png")
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste("white", (100, 0, 200, 100))
    wide.save("wide.jpg", quality=100)
    grid = tiles(done("vary", "plain", "same.png", "wide.jpg", "--num", "1"))
    assert np.array_equal(grid[0, 0], digit)
    assert grid[1, 0, :, 2:6].min() > 250
    assert np.array_equal(grid[0], tiles(done("vary", "plain", "test/4", "--num", "1"))[0])


def test_pictures_are_never_overwritten(place: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("vary.png", "vary-1.png"):
        assert main(["vary", "plain", "test/0", "--num", "1"]) == 0
        assert (runs / "plain/one/samples" / name).is_file()
    Path("mine.png").write_text("mine")
    Path("folder.png").mkdir()
    assert "--force" in refused(capsys, "vary", "plain", "test/0", "--out", "mine.png")
    assert Path("mine.png").read_text() == "mine"
    assert "ends in .png" in refused(capsys, "vary", "plain", "test/0", "--out", "mine.jpg")
    assert "ends in .png" in refused(capsys, "inpaint", "plain", "test/0", "--out", "folder.png")


@pytest.mark.slow
def test_labels_and_prompts_are_the_condition(place: Path) -> None:
    plain = done("vary", "classes", "test/0", "--num", "2")
    asked = done("vary", "classes", "test/0", "--num", "2", "--label", "4")
    assert asked.text["Label"] == "4"
    assert not np.array_equal(tiles(plain), tiles(asked))
    assert (
        done("inpaint", "attributes", "test/0", "--num", "2", "--label", "glasses,no-beard").text["Label"] == "glasses,no-beard"
    )
    prompted = done("vary", "captions", "test/0", "test/1", "--num", "2", "--prompt", "a smiling face with red hair")
    assert prompted.text["Label"] == "a smiling face with red hair"
    assert tiles(prompted).shape == (2, 3, 8, 8, 3)
    assert not np.array_equal(tiles(prompted), tiles(done("vary", "captions", "test/0", "test/1", "--num", "2")))


# -- inpaint -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["plain", "classes", "inpainter", "upscaler"])
@pytest.mark.parametrize("mask", ["box", "left", "bottom"])
def test_known_pixels_stay_as_they_are(run: str, mask: str, place: Path) -> None:
    hidden = np.zeros((8, 8), bool)
    hidden[{"box": np.s_[2:6, 2:6], "left": np.s_[:, :4], "bottom": np.s_[4:]}[mask]] = True
    grid = tiles(done("inpaint", run, "test/1", "test/2", "--mask", mask, "--num", "3"))
    assert grid.shape == (2, 5, 8, 8)
    for row, image in zip(grid, test_images(1, 2)[:, 0].numpy(), strict=True):
        assert np.array_equal(row[0], image)
        assert np.array_equal(row[1], np.where(hidden, 128, image))
        for filled in row[2:]:
            assert np.array_equal(filled[~hidden], image[~hidden])
            assert not np.array_equal(filled[hidden], image[hidden])
        assert not np.array_equal(row[2], row[3])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_keeps_known_pixels(sampler: str, place: Path) -> None:
    grid = tiles(done("inpaint", "plain", "test/1", "--mask", "top", "--num", "2", "--sampler", sampler, "--steps", "3"))
    assert np.array_equal(grid[0, 2:, 4:], np.stack([test_images(1)[0, 0, 4:].numpy()] * 2))


def test_a_mask_may_be_a_picture(place: Path) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:, 6:] = 255
    Image.fromarray(pixels).save("mask.png")
    grid = tiles(done("inpaint", "plain", "test/1", "--mask", "mask.png", "--num", "1"))
    assert np.array_equal(grid[0, 2, :, :6], test_images(1)[0, 0, :, :6])
    assert not np.array_equal(grid[0, 2, :, 6:], test_images(1)[0, 0, :, 6:])


def test_masks_that_cannot_be(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("black.png", 0), ("white.png", 255)):
        Image.new("L", (8, 8), value).save(name)
        assert f"{name.removesuffix('.png')} everywhere" in refused(capsys, "inpaint", "plain", "test/0", "--mask", name)
    unknown = refused(capsys, "inpaint", "plain", "test/0", "--mask", "middle")
    assert "there is no mask middle: name box, left, right, top, bottom, or an image" in unknown
    Path("damaged.png").write_bytes(Path("black.png").read_bytes()[:40])
    assert "the mask damaged.png cannot be read" in refused(capsys, "inpaint", "plain", "test/0", "--mask", "damaged.png")


# -- upscale -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("run", "factor"), [("plain", 2), ("plain", 4), ("classes", 2), ("upscaler", 2), ("inpainter", 4)])
def test_an_image_is_downsampled_and_upscaled(run: str, factor: int, place: Path) -> None:
    grid = tiles(done("upscale", run, "test/5", "test/6", "--factor", str(factor), "--num", "2"))
    images = test_images(5, 6)[:, 0].numpy()
    assert grid.shape == (2, 5, 8, 8)
    assert np.array_equal(grid[:, 0], images)
    squares = images.reshape(2, 8 // factor, factor, 8 // factor, factor)
    means = squares.mean((2, 4), keepdims=True)
    assert np.abs(grid[:, 1].reshape(squares.shape) - means).max() <= 0.5 + 1e-3
    assert not np.array_equal(grid[:, 3], grid[:, 4])
    if run != "upscaler":  # held to the small picture; untrained, so up to what is beyond black and white
        model = genai.load(run)
        small = to_float(torch.from_numpy(images[:, None].copy())).reshape(2, 1, *squares.shape[1:]).mean((3, 5))
        said = torch.zeros(2, dtype=torch.long) - 1 if model.conditional else None
        sampled = to_uint8(model.upscale(small, [0, 1], said)).numpy()[:, 0]
        assert np.array_equal(sampled[0], grid[0, 3])


def test_a_model_of_text_and_one_of_attributes_upscale_in_colour(place: Path) -> None:
    for run in ("captions", "attributes"):
        assert tiles(done("upscale", run, "test/0", "--num", "2")).shape == (1, 5, 8, 8, 3)


def test_factors_that_do_not_fit(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "6 is not a multiple of 4" in refused(capsys, "upscale", "six", "test/0", "--factor", "4")
    assert tiles(done("upscale", "six", "test/0", "--num", "1"), size=6).shape == (1, 4, 6, 6)
    assert "invalid choice" in refused(capsys, "upscale", "plain", "test/0", "--factor", "3")
    assert "upscales by 2, not by 4" in refused(capsys, "upscale", "upscaler", "test/0", "--factor", "4")


def test_restoration_leaves_out_factors_that_a_model_does_not_know(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restoration", "upscaler", "--num", "8"]) == 0
    output = capsys.readouterr().out
    assert "upscaling x4 is skipped: this model upscales by 2, not by 4" in output
    assert "upscaling x2: model" in output
    assert "upscaling x4: model" not in output


# -- diffuse -------------------------------------------------------------------------------------------------------------


def test_the_forward_process_and_reverse_trajectories_of_an_image(place: Path) -> None:
    picture = done("diffuse", "plain", "--images", "test/1", "test/2", "--num", "3", "--columns", "6")
    grid = tiles(picture)
    assert picture.text["Verb"] == "diffuse"
    assert grid.shape == (5, 6, 8, 8)
    assert np.array_equal(grid[:2, 0], test_images(1, 2)[:, 0])
    distance = np.abs(grid[:2].astype(int) - grid[:2, :1]).mean((0, 2, 3))
    assert (np.diff(distance[:4]) > 0).all()
    assert main(["sample", "plain", "--num", "3", "--out", "samples.npz"]) == 0
    assert np.array_equal(grid[2:, -1], np.load("samples.npz")["images"])
    assert main(["diffuse", "plain", "--columns", "6", "--out", "process.webp"]) == 0
    assert Image.open("process.webp").n_frames == 6


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_fewer_steps_than_columns(sampler: str, place: Path) -> None:
    picture = done("diffuse", "classes", "--steps", "2", "--sampler", sampler, "--label", "3,4", "--num", "2")
    assert tiles(picture).shape == (3, 10, 8, 8)
    assert picture.text["Label"] == "3,4"


def test_processes_in_colour_and_of_words(place: Path) -> None:
    assert tiles(done("diffuse", "attributes", "--columns", "3")).shape == (4, 3, 8, 8, 3)
    prompt = ["--prompt", "a serious face with a hat"]
    assert tiles(done("diffuse", "captions", *prompt, "--columns", "3", "--num", "1")).shape == (2, 3, 8, 8, 3)


def test_processes_that_cannot_be_shown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "use 2 or more" in refused(capsys, "diffuse", "plain", "--columns", "1")
    assert "use 64 or less" in refused(capsys, "diffuse", "plain", "--num", "65")


# -- zoo entries ---------------------------------------------------------------------------------------------------------


def test_a_zoo_entry_is_left_as_it_is(place: Path, runs: Path) -> None:
    source, entry = runs / "plain/one", Path("zoo/mine")
    entry.mkdir(parents=True)
    for name in ("config.yaml", "run.json"):
        (entry / name).write_bytes((source / name).read_bytes())
    weights = {name: value.contiguous() for name, value in genai.load(source).export_state().items()}
    save_file(weights, entry / "weights.safetensors")
    before = sorted(entry.rglob("*"))
    for verb, images in (("vary", ["test/0"]), ("inpaint", ["test/0"]), ("upscale", ["test/0"]), ("diffuse", [])):
        assert main([verb, "zoo/mine", *images]) == 0
        assert Image.open(f"mine-{verb}.png").text["Run"] == "zoo/mine"
    assert sorted(entry.rglob("*")) == before
    assert np.array_equal(tiles(Image.open("mine-vary.png")), tiles(done("vary", "plain", "test/0")))


# -- mistakes of all -----------------------------------------------------------------------------------------------------


def test_pictures_that_cannot_be_read(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (99, 99)).save("whole.png")
    Path("cut.png").write_bytes(Path("whole.png").read_bytes()[:60])
    Path("empty.png").touch()
    Path("folder").mkdir()
    missing = refused(capsys, "vary", "plain", "nowhere.png")
    assert missing == "genai: there is no image nowhere.png: name a file, or test/0 for the first test image of the run\n"
    for name in ("cut.png", "empty.png", "folder"):
        assert f"the image {name} cannot be read" in refused(capsys, "upscale", "plain", name)
    assert "test/0 to test/349" in refused(capsys, "inpaint", "plain", "test/99999")
    assert "there is no image test/²" in refused(capsys, "vary", "plain", "test/²")
    assert "there is no image test/-1" in refused(capsys, "diffuse", "plain", "--images", "test/-1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["vary", "plain", "test/0", "--strength", "1.5"], "--strength: 1.5 is out of range: use 0 to 1"),
        (["vary", "plain", "test/0", "--strength", "nan"], "is not a number"),
        (["vary", "plain", "test/0", "--seed", "-1"], "--seed: -1 is out of range"),
        (["diffuse", "plain", "--seed", str(2**31)], "is out of range"),
        (["vary", "plain"], "the following arguments are required: IMAGE"),
        (["vary", "nowhere", "test/0"], "there is no run `nowhere`"),
        (["vary", "plain", "test/0", "--num", "0"], "is not an integer of at least 1"),
        (["vary", "plain", "test/0", "--label", "4"], "is unconditional"),
        (["vary", "classes", "test/0", "--label", "eleven"], "there is no class 'eleven'"),
        (["vary", "classes", "test/0", "--label", "²"], "there is no class '²'"),
        (["vary", "classes", "test/0", "--prompt", "a four"], "is conditioned on labels, not on text"),
        (["vary", "captions", "test/0", "--prompt", "a face with glases"], "did you mean glasses?"),
        (["vary", GAN, "test/0"], "is a GAN, which cannot vary"),
        (["inpaint", GAN, "test/0"], "is a GAN, which cannot inpaint"),
        (["upscale", GAN, "test/0"], "is a GAN, which cannot upscale"),
        (["diffuse", GAN], "is a GAN, which cannot show a diffusion process"),
        (["vary", "plain", "test/0", "--sampler", "rk45"], "there is no --sampler 'rk45': choose from euler, heun"),
        (["sample", "plain", "--sampler", "rk45"], "there is no --sampler 'rk45': choose from euler, heun"),
        (["sample", "plain", "--schedule", "steep"], "there is no --schedule 'steep': choose from karras"),
        (["sample", "plain", "--steps", "0"], "is not an integer of at least 1"),
        (["sample", GAN, "--sampler-option", "churn=1"], "is a GAN, which samples in one step"),
        (
            ["sample", "plain", "--sampler", "heun", "--sampler-option", "eta=1"],
            "heun has no option 'eta': its options are churn",
        ),
        (["vary", "plain", "test/0", "--sampler-option", "churn=1"], "sampler dpmpp has no option 'churn': it has no options"),
        (["sample", "plain", "--sampler", "unipc", "--sampler-option", "order=x"], "must be a whole number"),
        (["sample", "plain", "--sampler-option", "order"], "is not NAME=VALUE, such as churn=20"),
        (["sample", GAN, "--steps", "4"], "is a GAN, which samples in one step"),
        (["sample", GAN, "--guidance", "2"], "is a GAN, which samples in one step"),
        (["sample", GAN, "--candidates", "8"], "these weights have no discriminator"),
        (["sample", "plain", "--candidates", "8"], "is a Diffusion, which cannot choose among candidates with a discriminator"),
        (["sample", "plain", "--guidance", "2"], "is unconditional: --guidance needs --autoguidance RUN"),
        (["sample", "classes", "--guidance", "inf"], "is not a number such as 2"),
        (["sample", "classes", "--guidance-interval", "0.2,5"], "add --guidance 2"),
        (["sample", "classes", "--guidance", "2", "--guidance-interval", "5,0.2"], "the lower first, such as 0.2,5"),
        (["sample", "classes", "--guidance", "2", "--guidance-interval", "some"], "is not two noise levels"),
        (["sample", "plain", "--autoguidance", "plain"], "add --guidance 2"),
        (["sample", "classes", "--guidance", "1", "--guidance-interval", "0.2,5"], "add --guidance 2"),
        (["sample", "plain", "--guidance", "2", "--autoguidance", "nowhere"], "there is no run `nowhere`"),
        (["sample", "plain", "--guidance", "2", "--autoguidance", GAN], "is a GAN of 1x28x28 images"),
        (["sample", "plain", "--guidance", "2", "--autoguidance", "six"], "is a Diffusion of 1x6x6 images"),
        (["sample", "plain", "--guidance", "2", "--autoguidance", "upscaler"], "has another condition"),
        (["sample", "captions", "--guidance", "2", "--autoguidance", "attributes"], "has another condition"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], words: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in refused(capsys, *arguments)
    assert not list(place.iterdir())


# -- sample in steps -----------------------------------------------------------------------------------------------------


def sampled(*arguments: str) -> np.ndarray:
    """The images of genai sample, int (N, ...)."""
    assert main(["sample", *arguments, "--out", "samples.npz", "--force"]) == 0
    return np.load("samples.npz")["images"].astype(int)


@pytest.mark.slow
def test_samplers_steps_and_schedules_change_the_images(place: Path) -> None:
    plain = sampled("plain", "--num", "3")
    assert np.array_equal(plain, sampled("plain", "--num", "3", "--steps", "4", "--sampler", "dpmpp", "--schedule", "karras"))
    for options in (["--steps", "2"], ["--sampler", "heun"], ["--sampler", "ddpm"], ["--schedule", "flow"]):
        changed = sampled("plain", "--num", "3", *options)
        assert not np.array_equal(plain, changed)
        assert np.array_equal(changed[:2], sampled("plain", "--num", "2", *options))


@pytest.mark.slow
def test_options_of_a_sampler(place: Path) -> None:
    adaptive = ["plain", "--num", "2", "--sampler", "adaptive"]
    plain = sampled(*adaptive)
    assert np.array_equal(plain, sampled(*adaptive, "--sampler-option", "tolerance=0.01", "--sampler-option", "max_steps=1000"))
    assert not np.array_equal(plain, sampled(*adaptive, "--sampler-option", "tolerance=0.5"))
    assert np.array_equal(
        sampled("plain", "--num", "2", "--sampler", "ddpm"),
        sampled("plain", "--num", "2", "--sampler", "ddim", "--sampler-option", "eta=1"),
    )


@pytest.mark.slow
def test_guidance_needs_a_null_condition_that_was_trained() -> None:
    model = SimpleNamespace(conditional=True, condition_dropout=0.0, sampling=Sampling())
    source: Any = LoadedRun(SimpleNamespace(path="runs/one"), model, ())  # type: ignore[arg-type]
    SamplerOptions(guidance=1.0).check_guidance(source)
    with pytest.raises(UserError, match="no null condition"):
        SamplerOptions(guidance=2.0).check_guidance(source)


def test_guidance_within_an_interval(place: Path) -> None:
    plain = sampled("classes", "--num", "3")
    guided = sampled("classes", "--num", "3", "--guidance", "3")
    assert np.array_equal(plain, sampled("classes", "--num", "3", "--guidance", "1"))
    assert not np.array_equal(plain, guided)
    assert np.array_equal(guided, sampled("classes", "--num", "3", "--guidance", "3", "--guidance-interval", "0,100"))
    assert np.array_equal(plain, sampled("classes", "--num", "3", "--guidance", "3", "--guidance-interval", "90,100"))


@pytest.mark.slow
def test_autoguidance_by_another_run(place: Path) -> None:
    plain = sampled("plain", "--num", "3")
    by_itself = sampled("plain", "--num", "3", "--guidance", "3", "--autoguidance", "plain")
    assert np.abs(plain - by_itself).max() <= 1
    by_another = sampled("plain", "--num", "3", "--guidance", "3", "--autoguidance", "classes")
    assert np.abs(plain - by_another).max() > 1
    of_classes = sampled("classes", "--num", "3", "--guidance", "3", "--autoguidance", "plain")
    assert not np.array_equal(of_classes, sampled("classes", "--num", "3", "--guidance", "3"))


def test_prompts_in_steps(place: Path) -> None:
    Path("prompts.txt").write_text("a smiling face with red hair\na serious face with a hat\n")
    options = ["--prompts", "prompts.txt", "--per-label", "2", "--same-noise", "--steps", "3", "--guidance", "2"]
    assert sampled("captions", *options).shape == (4, 8, 8, 3)
