"""Rewards of images: closed forms, the loss of DiffusionNFT on a toy, REINFORCE on codes, and the presets of both."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from genai.cli import main
from genai.data.digits import Digits
from genai.errors import UserError
from genai.models.base import Model
from genai.models.classifier.classifier import Classifier
from genai.models.diffusion.nft import DiffusionNFT, nft_loss, optimality, path_kl
from genai.models.diffusion.sampling import Sampling
from genai.models.image_rewards import LabelProbability, StrokeThickness, Symmetry
from genai.models.policy_gradient import check_rewards
from genai.models.vqvae.quantizers import VectorQuantizer
from genai.models.vqvae.reinforce import CodeReinforce
from genai.networks.codec import GridDecoder, GridEncoder
from genai.networks.convnet import ConvNet
from genai.networks.transformer import Transformer
from genai.networks.unet import UNet
from genai.runs import REPOSITORY, find
from tests.test_configs import QUICK, data_or_skip, without_gradient

CONFIGS = REPOSITORY / "configs"
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def brightness(images: Tensor, labels: Tensor | None) -> Tensor:
    """A user's own reward: a function."""
    return images.mean(dim=(1, 2, 3))


# -- rewards ---------------------------------------------------------------------------------------------------------------


def test_the_thickness_of_a_stroke() -> None:
    images = torch.full((3, 1, 20, 20), -1.0)
    images[0, :, 2:18, 5:7] = 1  # 16 x 2 pixels: 2 area / perimeter = 64 / 36
    images[1, :, :, 5:9] = 1  # at the border too
    images[2, :, 2:18, 5:7] = 0  # grey: area and perimeter are both halved
    thickness = StrokeThickness()(images, None)
    torch.testing.assert_close(thickness, torch.tensor([64 / 36, 160 / 48, 64 / 36]))
    assert StrokeThickness(thickest=2.0)(images, None)[1] == 2
    assert StrokeThickness()(torch.full((1, 1, 4, 4), -1.0), None) == 0


def test_symmetry_is_one_for_mirror_images_and_zero_for_one_half() -> None:
    images = torch.full((3, 1, 4, 6), -1.0)
    images[0, :, 1, 1] = images[0, :, 1, 4] = 1
    images[1, :, 1, 1] = 1
    images[2, :, 1, 1], images[2, :, 1, 4] = 1, 0  # brightness 1 and 1/2: 1 - 1 / 3
    torch.testing.assert_close(Symmetry()(images, None), torch.tensor([1, 0, 2 / 3]))


class FixedProbabilities(nn.Module):
    """A classifier with fixed probabilities."""

    def predict(self, images: Tensor) -> Tensor:
        return torch.tensor([[0.1, 0.9], [0.6, 0.4]])


def test_the_probability_of_the_label() -> None:
    reward, images = LabelProbability("some-run"), torch.zeros(2, 1, 4, 4)
    with pytest.raises(UserError, match="some-run"):
        reward(images, torch.tensor([0, 0]))
    reward.use(FixedProbabilities())  # type: ignore[arg-type]
    torch.testing.assert_close(reward(images, torch.tensor([1, 0])), torch.tensor([0.9, 0.6]))
    torch.testing.assert_close(
        reward(images, torch.tensor([[1.0, 0.0], [0.0, 0.0]])), torch.tensor([(0.1 + 0.1) / 2, (0.4 + 0.6) / 2])
    )
    reward.threshold = 0.6
    torch.testing.assert_close(reward(images, torch.tensor([0, 0])), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(reward(images, torch.tensor([[0.0, 1.0], [1.0, 0.0]])), torch.tensor([1.0, 1.0]))
    with pytest.raises(UserError, match="threshold"):
        LabelProbability("some-run", threshold=1.5)
    with pytest.raises(UserError, match="conditional"):
        reward(images, None)
    with pytest.raises(UserError, match="needs a classifier"):
        reward.use(nn.Linear(1, 1))  # type: ignore[arg-type]


@pytest.mark.parametrize("rewards", [torch.zeros(3, 1), torch.zeros(2), torch.tensor([0.0, float("nan"), 0.0])])
def test_a_reward_is_one_finite_number_for_each_image(rewards: Tensor) -> None:
    with pytest.raises(UserError, match="one finite number"):
        check_rewards(rewards, 3)


# -- DiffusionNFT ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 1.0, 2.0])
def test_the_minimum_of_the_loss_is_the_closed_form(beta: float) -> None:
    """Three clean images of one pixel behind a noisy one: D* = D_old + 2 / beta (E[r x_0] - E[r] D_old)."""
    x_0, p, r = (torch.tensor(values, dtype=torch.float64) for values in ([0.2, -0.7, 1.0], [0.5, 0.3, 0.2], [0.9, 0.1, 0.4]))
    old = (p * x_0).sum()

    def loss(denoised: Tensor) -> Tensor:
        each = nft_loss(denoised.expand(3, 1, 1, 1), old.expand(3, 1, 1, 1), x_0.view(3, 1, 1, 1), r, torch.ones(3), beta)
        return (p * each).sum()

    at_old = old.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(at_old), at_old, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, at_old)  # the loss is quadratic: one Newton step is exact
    expected = old + 2 / beta * ((p * r * x_0).sum() - (p * r).sum() * old)
    torch.testing.assert_close((at_old - slope / curvature).detach(), expected)


def test_optimality_is_a_half_without_a_difference() -> None:
    r = optimality(torch.tensor([0.0, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]), 4)
    assert r[0] == 0
    assert r[4:].tolist() == [0.5] * 4
    assert 0.5 < r[1] == r[2] == r[3] < 1


def test_path_kl_of_two_gaussians_is_that_of_the_images() -> None:
    """For data N(mu, s^2) D = (s^2 x + sigma^2 mu) / (s^2 + sigma^2): KL = (mu - mu')^2 / (2 s^2) in each pixel."""
    s, means = 0.6, (0.3, -0.5)

    def denoiser_of(mu: float, x: Tensor, sigma: Tensor) -> Tensor:
        variance = sigma[:, None, None, None] ** 2
        return (s**2 * x + variance * mu) / (s**2 + variance)

    num = 4000
    u = (torch.arange(num) + 0.5) / num
    x_0 = means[0] + s * torch.randn(num, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    kl = path_kl(*(partial(denoiser_of, mu) for mu in means), x_0, torch.zeros_like(x_0), u).mean()
    assert float(kl) == pytest.approx(4 * (means[0] - means[1]) ** 2 / (2 * s**2), rel=2e-3)


def tiny_nft(**options: Any) -> DiffusionNFT:
    torch.manual_seed(0)
    network = partial(UNet, channels=[8, 8], num_blocks=1, attention=0, embedding_dim=16)
    optimizer = partial(torch.optim.Adam, lr=3e-3)
    options |= {"conditional": True, "optimizer": optimizer, "ema_halflife_kimg": 0.05, "sampling": Sampling(steps=3)}
    return DiffusionNFT((1, 8, 8), 10, network, brightness, **options)


def tiny_codes(**options: Any) -> CodeReinforce:
    torch.manual_seed(0)
    codec = {"channels": [8], "num_blocks": [1], "patch_size": 4}
    model = CodeReinforce(
        (1, 8, 8), 10, brightness, encoder=partial(GridEncoder, **codec), decoder=partial(GridDecoder, **codec),
        prior=partial(Transformer, dim=16, depth=1, num_heads=2), quantizer=VectorQuantizer(8, 4), conditional=True,
        optimizer=partial(torch.optim.Adam, lr=3e-3), ema_halflife_kimg=0.1, **options,
    )  # fmt: skip
    model.initialise_from({name: value + torch.randn(value.shape) / 4 if value.is_floating_point() else value
                           for name, value in model.export_state().items()})  # fmt: skip
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "steps"), [pytest.param(tiny_nft, 25, marks=[pytest.mark.slow, pytest.mark.long]), (tiny_codes, 40)]
)
def test_the_reward_rises_the_start_stays_and_a_penalty_holds_the_model(build: Any, steps: int) -> None:
    found = {}
    for weight in (0.0, 30.0):
        model, data = build(kl_weight=weight), Digits(batch_size=8, seed=0)
        before = {name: value.clone() for name, value in model.reference.state_dict().items()}
        trainer = L.Trainer(max_steps=steps, accelerator="cpu", limit_val_batches=1, **QUIET)
        trainer.fit(model, data)
        found[weight] = trainer.validate(model, data, verbose=False)[0]
        assert all(torch.equal(value, before[name]) for name, value in model.reference.state_dict().items())
    free, held = found[0.0], found[30.0]
    assert free["val/reward"] > free["val/reference_reward"] + 0.02
    assert free["val/reference_reward"] == held["val/reference_reward"]
    assert 0 <= held["val/kl"] < free["val/kl"] / 2


# -- presets ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of two batches of the classifiers and of the VQ-VAE of digits."""
    path = tmp_path_factory.mktemp("rewards")
    short = [
        "--trainer.max_epochs",
        "1",
        "--trainer.limit_train_batches",
        "2",
        "--trainer.limit_val_batches",
        "1",
        "--tracker",
        "csv",
    ]
    short += ["--evaluation.every_n_epochs", "0", "--gallery.every_n_epochs", "0", "--trainer.enable_progress_bar", "false"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        for name in ("digits/classifier", "digits/vqvae"):
            more = ["--trainer.precision", "32"] + (["--model.init_args.tokenizer_kimg", "0.06"] if "vqvae" in name else [])
            assert main(["fit", "-c", name, *short, *more]) == 0
    return path


OTHERS = [
    pytest.param(name, marks=[pytest.mark.slow, pytest.mark.long])
    for name in ("digits/vqvae-rl", "mnist/vqvae-rl", "mnist/diffusion-rl")
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits/diffusion-rl", *OTHERS])
def test_two_batches_of(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reward of MNIST's presets is that of the digits' classifier, since its values do not matter here."""
    config, unused = CONFIGS / f"{name}.yaml", set()
    options = data_or_skip(config)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(Model, "on_after_backward", lambda self: unused.update(without_gradient(self)))
    if name.startswith("mnist"):
        options += ["--model.init_args.reward", "genai.models.image_rewards.Symmetry", "--evaluation.every_n_epochs", "0"]
        options += ["--gallery.every_n_epochs", "0"]
    if name == "digits/vqvae-rl":
        options += ["--init_from", "digits-vqvae"]
    assert main(["fit", "-c", str(config), *QUICK, "--data.init_args.batch_size", "2", *options]) == 0
    assert not unused


def test_every_preset_with_a_reward_is_tested() -> None:
    names = {path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*rl.yaml")}
    of_text = {"arithmetic/rl", "shakespeare/milton-rl"}  # tests/models/test_reinforce.py
    assert names == {"digits/vqvae-rl", "digits/diffusion-rl", "mnist/vqvae-rl", "mnist/diffusion-rl"} | of_text


def test_curves_of_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    two = ["curves", "digits-classifier", "digits-vqvae", "--metrics", "val/loss", "val/reconstruction"]
    assert main([*two, "--out", "two.png"]) == 0
    assert Image.open("two.png").size[0] == 2 * 480
    assert main(["curves", "digits-classifier", "--metrics", "val/loss", "--against", "val/accuracy", "--out", "two.png"]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["curves", "digits-classifier", "--metrics", "val/nothing"]) == 2
    assert "val/loss" in capsys.readouterr().err
    assert main(["curves", "zoo/digits-diffusion"]) == 2
    assert "metrics.csv" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.long
def test_a_run_with_a_reward_resumes_exactly_and_samples_without_its_classifier(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    fit = ["fit", "-c", "digits/diffusion-rl", "--trainer.enable_progress_bar", "false", "--trainer.limit_train_batches", "1"]
    fit += ["--data.init_args.batch_size", "2", "--trainer.limit_val_batches", "1", "--evaluation.every_n_epochs", "0"]
    fit += ["--gallery.every_n_epochs", "0", "--tracker", "none"]
    assert main([*fit, "--model.init_args.reward.init_args.run", "no-such-run"]) == 2
    assert "no-such-run" in capsys.readouterr().err
    assert not Path("runs/digits-diffusion-rl").exists()
    assert main([*fit, "--trainer.max_epochs", "2", "--experiment", "whole"]) == 0
    assert main([*fit, "--trainer.max_epochs", "1", "--experiment", "parts"]) == 0
    assert main(["fit", "--resume", "parts", "--trainer.max_epochs", "2"]) == 0
    whole, parts = (torch.load(find(name).path / "checkpoints/last.ckpt", weights_only=True) for name in ("whole", "parts"))
    assert all(torch.equal(value, parts["state_dict"][name]) for name, value in whole["state_dict"].items())
    config = find("whole").path / "config.yaml"
    content = yaml.safe_load(config.read_text())
    assert content["model"]["init_args"]["reward"]["init_args"] == {"run": "digits-classifier", "threshold": 0.9}
    Path("runs/digits-classifier").rename("runs/elsewhere")
    try:
        assert main(["sample", "whole", "--num", "2", "--steps", "2"]) == 0
        assert main(["validate", "whole", "--evaluation.num_samples", "20"]) == 2
        assert "digits-classifier" in capsys.readouterr().err
    finally:
        Path("runs/elsewhere").rename("runs/digits-classifier")


@pytest.mark.slow
def test_a_function_of_ones_own_is_a_reward(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained without more options; read under the same rules as other classes of one's own, with --trust."""
    monkeypatch.chdir(folder)
    (folder / "mine.py").write_text("def dark(images, labels):\n    return -images.mean(dim=(1, 2, 3))\n")
    monkeypatch.syspath_prepend(str(folder))
    fit = ["fit", "-c", "digits/diffusion-rl", "--trainer.enable_progress_bar", "false", "--trainer.limit_train_batches", "1"]
    fit += [
        "--trainer.max_epochs",
        "1",
        "--data.init_args.batch_size",
        "2",
        "--trainer.limit_val_batches",
        "1",
        "--tracker",
        "none",
    ]
    fit += ["--evaluation.every_n_epochs", "0", "--gallery.every_n_epochs", "0", "--experiment", "dark"]
    assert main([*fit, "--model.init_args.reward", "mine.dark"]) == 0
    run = find("dark").path
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + "\n")  # no longer signed: a run from elsewhere
    assert main(["sample", "dark", "--num", "2", "--steps", "2"]) == 2
    assert "--trust mine" in capsys.readouterr().err
    assert main(["sample", "dark", "--num", "2", "--steps", "2", "--trust", "mine"]) == 0


def test_a_classifier_of_other_labels_is_refused() -> None:
    class Stub(Classifier):
        def predict(self, images: torch.Tensor) -> torch.Tensor:
            return torch.full((len(images), self.num_classes), 0.5)

    images = torch.zeros(2, 1, 8, 8)
    for num, attributes, labels in (
        (4, True, torch.tensor([1, 2])),
        (4, False, torch.tensor([1, 9])),
        (4, False, torch.ones(2, 4)),
    ):
        reward = LabelProbability("some-run")
        reward.use(Stub((1, 8, 8), num, ConvNet, attributes=attributes))
        with pytest.raises(UserError, match="classifier of the same labels"):
            reward(images, labels)
