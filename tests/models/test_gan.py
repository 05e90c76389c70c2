"""The GAN module: sampling, conditions, optimisers, the count of batches, schedules, and non-finite losses."""

import inspect
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.optim import SGD, Adam, RMSprop
from torch.utils.data import DataLoader, TensorDataset

from genai import runs
from genai.cli import main
from genai.data.digits import Digits
from genai.errors import UserError
from genai.models.gan.gan import GAN
from genai.models.gan.objectives import NonSaturating, Relativistic
from genai.models.schedules import Cosine
from genai.models.seeds import seeded_normal
from genai.networks.mlp import MLPDiscriminator, MLPGenerator

ROOT = Path(__file__).parent.parent.parent
FIT = ["-c", str(ROOT / "configs/digits/gan.yaml"), "--tracker", "none", "--trainer.enable_progress_bar", "false"]
FIT += ["--trainer.enable_model_summary", "false", "--evaluation.every_n_epochs", "0", "--gallery.every_n_epochs", "0"]
FIT += ["--model.init_args.generator.init_args.hidden", "[8]", "--model.init_args.discriminator.init_args.hidden", "[8]"]
EPOCH = 17  # batches of 64 digits
QUIET: Any = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def mlp_gan(conditional: bool = False) -> GAN:
    torch.manual_seed(0)
    return GAN((1, 28, 28), 10, MLPGenerator, MLPDiscriminator, conditional=conditional).eval()


def test_the_networks_have_the_documented_widths() -> None:
    model = mlp_gan()
    widths = [layer.out_features for layer in model.generator.modules() if isinstance(layer, torch.nn.Linear)]
    assert widths == [256, 512, 1024, 784]
    widths = [layer.out_features for layer in model.discriminator.modules() if isinstance(layer, torch.nn.Linear)]
    assert widths == [1024, 512, 256, 1]
    assert model.layout.latent_dim == 10
    assert sum(p.numel() for p in model.generator.parameters()) == 10 * 256 + 256 * 512 + 512 * 1024 + 1024 * 784 + 2576


def test_sampling_uses_the_averaged_generator_only() -> None:
    model = mlp_gan()
    before = model.sample(range(4))
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.zero_()
    assert torch.equal(model.sample(range(4)), before)
    assert before.shape == (4, 1, 28, 28)
    assert before.abs().max() <= 1


def test_the_first_eight_of_sixty_four_are_the_same_to_the_last_bit() -> None:
    model = mlp_gan()
    assert torch.equal(model.sample(range(8)), model.sample(range(64))[:8])


def test_a_conditional_gan_gives_the_label_to_both_networks() -> None:
    model = mlp_gan(conditional=True)
    four, nine = (model.sample([0], torch.tensor([label])) for label in (4, 9))
    assert not torch.equal(four, nine)
    as_four, as_nine = (model.realness(four, torch.tensor([label])) for label in (4, 9))
    assert not torch.equal(as_four, as_nine)


class LinearGenerator(nn.Module):
    """A generator with a closed form: every pixel is z plus the condition's value, <condition, (0, 1, 2, ...)> / 100."""

    latent_dim = 1

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, noise: float = 1.0) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.noise = noise
        self.values = nn.Parameter(torch.arange(float(num_classes)) / 100)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        return (self.noise * z[:, 0] + condition @ self.values)[:, None, None, None].expand(-1, *self.image_shape)


class DistanceRecorder(nn.Module):
    """A discriminator that records how far each image is from its condition's value."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.values = torch.arange(float(num_classes)) / 100
        self.distances: list[float] = []

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        distance = (x.mean(dim=(1, 2, 3)) - condition @ self.values).abs()
        self.distances.append(distance.max().item())
        return self.weight * distance


def linear_gan(noise: float = 1.0) -> GAN:
    still = partial(SGD, lr=0.0)
    return GAN((1, 2, 3), 7, partial(LinearGenerator, noise=noise), DistanceRecorder, still, still, conditional=True)


@pytest.mark.parametrize("num", [1, 63, 64, 65, 200])
def test_each_row_is_the_image_of_its_seed_and_label_whatever_the_chunk(num: int) -> None:
    torch.manual_seed(0)
    seeds, labels = [int(seed) for seed in torch.randint(10**6, (num,))], torch.randint(7, (num,))
    images = linear_gan().sample(seeds, labels)
    expected = seeded_normal(seeds, (1,), torch.device("cpu"))[:, 0] + labels / 100
    torch.testing.assert_close(images, expected[:, None, None, None].expand(-1, 1, 2, 3))


def test_reordered_seeds_and_labels_give_reordered_images() -> None:
    torch.manual_seed(0)
    model, labels, order = linear_gan(), torch.randint(7, (150,)), torch.randperm(150)
    reordered = model.sample(order.tolist(), labels[order])
    assert torch.equal(reordered, model.sample(range(150), labels)[order])


def test_attributes_are_conditions_unchanged() -> None:
    attributes = torch.rand(100, 7)
    images = linear_gan(noise=0.0).sample(range(100), attributes)
    torch.testing.assert_close(images[:, 0, 0, 0], attributes @ (torch.arange(7.0) / 100))


def fit(model: GAN, images: Tensor, labels: Tensor | None = None, epochs: int = 1, batch: int = 8, **options: Any) -> L.Trainer:
    """Train `model` on a few images in the order given."""
    labels = torch.zeros(len(images), dtype=torch.long) if labels is None else labels
    trainer = L.Trainer(accelerator="cpu", max_epochs=epochs, **QUIET, **options)
    trainer.fit(model, DataLoader(TensorDataset(images, labels), batch_size=batch))
    return trainer


def test_both_networks_receive_the_labels_of_the_batch_in_training() -> None:
    """Real and generated images of label k have the value k / 100, so every recorded distance is 0."""
    torch.manual_seed(0)
    model, labels = linear_gan(noise=0.0), torch.randint(7, (40,))
    fit(model, (labels / 100)[:, None, None, None].expand(-1, 1, 2, 3), labels)
    assert len(model.discriminator.distances) == 3 * 5
    assert max(model.discriminator.distances) < 1e-6


def tiny_gan(**options: Any) -> GAN:
    torch.manual_seed(0)
    return GAN((1, 2, 2), 0, partial(MLPGenerator, hidden=[8]), partial(MLPDiscriminator, hidden=[8], dropout=0.0), **options)


def noise_images(num: int) -> Tensor:
    return torch.rand(num, 1, 2, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1


FIRST_STEPS: dict[Any, Callable[[Tensor], Tensor]] = {
    SGD: lambda grad: -0.01 * grad,
    RMSprop: lambda grad: -0.01 * grad / ((0.01 * grad.square()).sqrt() + 1e-8),  # smoothing constant 0.99
    Adam: lambda grad: -0.01 * grad / (grad.abs() + 1e-8),
}


@pytest.mark.parametrize("for_discriminator", FIRST_STEPS)
@pytest.mark.parametrize("for_generator", FIRST_STEPS)
def test_each_network_takes_the_step_of_its_own_optimiser(for_generator: Any, for_discriminator: Any) -> None:
    optimizers = {
        "generator_optimizer": partial(for_generator, lr=0.01),
        "discriminator_optimizer": partial(for_discriminator, lr=0.01),
    }
    model, before = tiny_gan(**optimizers), tiny_gan()
    fit(model, noise_images(8))
    for network, kind in (("generator", for_generator), ("discriminator", for_discriminator)):
        for now, then in zip(getattr(model, network).parameters(), getattr(before, network).parameters(), strict=True):
            assert now.grad is not None
            assert (now.grad != 0).any()
            torch.testing.assert_close(now - then, FIRST_STEPS[kind](now.grad), rtol=1e-3, atol=1e-6)


def num_steps(model: GAN, trainer: L.Trainer) -> list[int]:
    """Steps that Adam took for the generator and the discriminator."""
    return [int(next(iter(optimizer.state.values()), {"step": 0})["step"]) for optimizer in trainer.optimizers]


@pytest.mark.parametrize(("ratio", "expected"), [(1, [12, 12]), (3, [4, 12]), (5, [2, 12])])
def test_the_generator_steps_once_in_so_many_batches_however_short_the_epochs(ratio: int, expected: list[int]) -> None:
    """Epochs of four batches: a count that began anew in each would leave the generator of ratio 5 untrained."""
    model = tiny_gan(num_discriminator_steps=ratio)
    assert num_steps(model, fit(model, noise_images(32), epochs=3)) == expected


@pytest.mark.parametrize("options", [{}, {"num_discriminator_steps": 2}, {"num_microbatches": 3}], ids=str)
def test_max_steps_counts_batches(options: dict[str, int]) -> None:
    model = tiny_gan(**options)
    trainer = fit(model, noise_images(96), epochs=-1, max_steps=6)
    assert trainer.global_step == 6
    assert model.images_seen == model.images_at_update == 6 * 8


@pytest.mark.parametrize("has_scaler", [False, True])
def test_max_steps_counts_skipped_batches(has_scaler: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for network in ("discriminator", "generator"):
        spoil(monkeypatch, network, nan_value, range(1, 4))
    model = tiny_gan(skip_nonfinite=True)
    scaler = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**8))
    trainer = fit(model, noise_images(96), epochs=-1, max_steps=6, plugins=[scaler] if has_scaler else [])
    assert trainer.global_step == 6
    assert model.images_seen == 6 * 8
    assert int(model.update_step.skipped) == 2 * 3
    assert num_steps(model, trainer) == [3, 3]


def test_a_resumed_fit_goes_on_counting_batches(tmp_path: Path) -> None:
    model = tiny_gan(num_discriminator_steps=2)
    fit(model, noise_images(24)).save_checkpoint(tmp_path / "one.ckpt")  # three batches, one step of the generator
    again = tiny_gan(num_discriminator_steps=2)
    trainer = L.Trainer(accelerator="cpu", max_epochs=2, **QUIET)
    trainer.fit(
        again, DataLoader(TensorDataset(noise_images(24), torch.zeros(24)), batch_size=8), ckpt_path=tmp_path / "one.ckpt"
    )
    assert trainer.global_step == 6
    assert num_steps(again, trainer) == [3, 6]


def test_the_trainers_flags_have_options_of_the_model() -> None:
    assert set(GAN.MANUAL_FLAGS) == {"gradient_clip_val", "accumulate_grad_batches"}
    assert set(GAN.MANUAL_FLAGS.values()) <= set(inspect.signature(GAN.__init__).parameters)


def test_a_gan_is_trained_and_sampled_in_plain_python() -> None:
    torch.manual_seed(0)
    networks: dict[str, Any] = {
        "generator": partial(MLPGenerator, hidden=[32]),
        "discriminator": partial(MLPDiscriminator, hidden=[32]),
    }
    model = GAN(image_shape=(1, 8, 8), num_classes=10, **networks)
    before = model.sample(seeds=range(4))
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", **QUIET)
    trainer.fit(model, Digits())
    images = model.sample(seeds=range(4))
    assert images.shape == (4, 1, 8, 8)
    assert not torch.equal(images, before)
    assert torch.equal(images, model.sample(seeds=[0, 1, 2, 3]))
    assert {"train/discriminator_loss", "train/generator_loss", "train/lr", "val/realness"} <= trainer.callback_metrics.keys()


def test_an_unknown_sampling_option_is_refused() -> None:
    with pytest.raises(TypeError, match="num_steps"):
        tiny_gan().sample(range(2), num_steps=5)


class RecordedSettings(L.Callback):
    """Records learning rates and second decay rates after each batch."""

    def __init__(self) -> None:
        self.rows: list[list[float]] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        groups = [optimizer.param_groups[0] for optimizer in trainer.optimizers]
        self.rows.append([*(group["lr"] for group in groups), *(group["betas"][1] for group in groups)])


def test_schedules_set_both_optimisers_as_images_are_seen() -> None:
    settings = RecordedSettings()
    lr, beta2 = Cosine(kimg=0.048, start=1.0, end=0.1), Cosine(kimg=0.032, start=0.9, end=0.99)
    model = tiny_gan(
        generator_optimizer=partial(Adam, lr=0.01),
        discriminator_optimizer=partial(Adam, lr=0.03),
        lr_schedule=lr,
        beta2_schedule=beta2,
    )
    fit(model, noise_images(32), epochs=2, callbacks=[settings])
    expected = [[0.01 * lr(seen), 0.03 * lr(seen), beta2(seen), beta2(seen)] for seen in range(0, 64, 8)]
    torch.testing.assert_close(torch.tensor(settings.rows), torch.tensor(expected))
    assert settings.rows[0] == pytest.approx([0.01, 0.03, 0.9, 0.9])
    assert settings.rows[-1] == pytest.approx([0.001, 0.003, 0.99, 0.99])


@pytest.mark.parametrize("num_microbatches", [1, 2])
def test_lazy_penalties_count_batches_over_short_epochs_and_not_microbatches(num_microbatches: int) -> None:
    """Three batches an epoch, two epochs, every second batch: the batches 0, 2 and 4 are penalised, as a whole."""

    class Recorded(Relativistic):
        def penalised_loss(self, *arguments: Any) -> Tensor:
            penalised.append(model.global_step)
            return super().penalised_loss(*arguments)

    penalised: list[int] = []
    model = tiny_gan(objective=Recorded(penalise_every=2), num_microbatches=num_microbatches)
    fit(model, noise_images(24), epochs=2)
    assert penalised == sorted(num_microbatches * [0, 2, 4])


def test_a_beta2_schedule_needs_an_optimiser_with_betas() -> None:
    model = tiny_gan(generator_optimizer=partial(SGD, lr=0.1), beta2_schedule=Cosine(kimg=1))
    with pytest.raises(UserError, match="SGD has no betas: choose another"):
        fit(model, noise_images(8))


def test_the_generator_is_trained_and_its_average_follows_behind() -> None:
    model, before = tiny_gan(ema_halflife_kimg=0.032), tiny_gan()
    fit(model, noise_images(64))
    start, end, averaged = (next(network.parameters()) for network in (before.generator, model.generator, model.averaged))
    moved = (end - start).norm()
    assert 0 < (averaged - start).norm() < moved
    assert 0 < (averaged - end).norm() < moved


def test_the_realness_of_held_out_images_is_relative_to_samples_of_the_current_weights() -> None:
    model, images = tiny_gan(objective=Relativistic()).eval(), noise_images(24)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    held_out = DataLoader(TensorDataset(images, torch.zeros(24, dtype=torch.int64)), batch_size=8)
    for factor in (1, 3):
        with torch.no_grad():
            next(model.averaged.parameters()).mul_(factor)
        expected = float(model.realness(images).mean())
        trainer.validate(model, held_out, verbose=False)
        assert float(trainer.callback_metrics["val/realness"]) == pytest.approx(expected, abs=1e-6)


def nan_value(loss: Tensor) -> Tensor:
    """NaN, with the gradient of `loss`."""
    return loss + float("nan")


def nan_gradient(loss: Tensor) -> Tensor:
    """The value of `loss`, with 0 * inf in its gradient."""
    return loss + (loss - loss.detach()).sqrt()


def spoil(patch: pytest.MonkeyPatch, network: str, spoiled: Callable[[Tensor], Tensor], steps: range) -> None:
    """Have the non-saturating loss of `network` spoiled in the given training steps, counted from 1."""
    method = f"{network}_loss"
    original, calls = getattr(NonSaturating, method), iter(range(1, 10**6))

    @wraps(original)
    def loss(*args: Any) -> Tensor:
        value: Tensor = original(*args)
        return spoiled(value) if next(calls) in steps else value

    patch.setattr(NonSaturating, method, loss)


def checkpoint(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    return content


def skipped_steps(run: Path) -> int:
    return int(checkpoint(run)["state_dict"]["update_step.skipped"])


def is_finite(run: Path) -> bool:
    return all(weight.isfinite().all() for weight in checkpoint(run)["state_dict"].values())


@pytest.mark.parametrize("spoiled", [nan_value, nan_gradient])
@pytest.mark.parametrize("network", ["discriminator", "generator"])
def test_a_step_that_is_not_finite_stops_the_fit_in_one_line(
    network: str,
    spoiled: Callable[[Tensor], Tensor],
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(monkeypatch, network, spoiled, range(EPOCH + 3, EPOCH + 4))
    assert main(["fit", *FIT, "--trainer.max_epochs", "3"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("INFO: ")]
    run = runs.find("digits-gan").path
    assert len(lines) == 1
    assert f"the {network}'s loss or gradient is not finite" in lines[0]
    assert ("loss nan" in lines[0]) == (spoiled is nan_value)
    assert f"in step {EPOCH + 3}, after {(EPOCH + 2) * 64} images" in lines[0]
    assert f"last good checkpoint: {run.resolve()}/checkpoints/last.ckpt;" in lines[0]
    assert f"lower the {network}'s learning rate" in lines[0]
    assert checkpoint(run)["images_seen"] == EPOCH * 64
    assert is_finite(run)


@pytest.mark.slow
def test_a_checkpoint_with_broken_weights_is_not_called_good(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *FIT, "--trainer.max_epochs", "1"]) == 0
    run = runs.find("digits-gan").path
    content = checkpoint(run)
    content["state_dict"]["generator.layers.0.weight"][0, 0] = float("inf")
    torch.save(content, run / "checkpoints/last.ckpt")
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs", "2"]) == 2
    assert "last good checkpoint: none yet" in capsys.readouterr().err


@pytest.mark.slow
def test_skipped_steps_are_counted_over_a_resumed_run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "generator", nan_gradient, range(EPOCH - 3, EPOCH + 3))
    skip = ["--model.init_args.skip_nonfinite", "true", "--trainer.log_every_n_steps", "1"]
    assert main(["fit", *FIT, *skip, "--trainer.max_epochs", "1"]) == 0
    run = runs.find("digits-gan").path
    assert skipped_steps(run) == 4
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs", "2"]) == 0
    assert skipped_steps(run) == 6
    assert is_finite(run)
    header, *rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    counted = [float(row[header.index("train/skipped_steps")]) for row in rows if row[header.index("train/skipped_steps")]]
    assert counted == [0] * (EPOCH - 4) + [1, 2, 3, 4, 5, 6] + [6] * (EPOCH - 2)


def test_a_skipped_step_leaves_its_network_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "discriminator", nan_value, range(1, 1000))
    model, before = tiny_gan(skip_nonfinite=True), tiny_gan()
    trainer = fit(model, noise_images(32))
    assert int(model.update_step.skipped) == 4
    assert num_steps(model, trainer) == [4, 0]
    for now, then in zip(model.discriminator.parameters(), before.discriminator.parameters(), strict=True):
        assert torch.equal(now, then)


def test_the_command_line_gives_each_network_its_optimiser(workspace: Path) -> None:
    generator = "{class_path: torch.optim.RMSprop, init_args: {lr: 0.001, alpha: 0.9}}"
    discriminator = "{class_path: torch.optim.SGD, init_args: {lr: 0.01, momentum: 0.5}}"
    own = ["--model.init_args.generator_optimizer", generator, "--model.init_args.discriminator_optimizer", discriminator]
    assert main(["fit", *FIT, *own, "--trainer.max_epochs", "1"]) == 0
    first, second = (state["param_groups"][0] for state in checkpoint(runs.find("digits-gan").path)["optimizer_states"])
    assert (first["lr"], first["alpha"]) == (0.001, 0.9)
    assert (second["lr"], second["momentum"]) == (0.01, 0.5)


def test_a_generator_of_another_shape_is_named_before_the_first_batch() -> None:
    model = GAN((1, 8, 8), 10, lambda shape, width: MLPGenerator((3, 8, 8), width), MLPDiscriminator)
    with pytest.raises(UserError, match=r"MLPGenerator generates images of shape \(3, 8, 8\), the data's are \(1, 8, 8\)"):
        model.on_fit_start()
