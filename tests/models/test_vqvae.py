"""VQ-VAE: two stages in one fit, codes and images, sampling from a known prior."""

import csv
import inspect
import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader, TensorDataset

from genai import runs
from genai.cli import main
from genai.errors import UserError
from genai.models.conditions import encode_labels
from genai.models.schedules import Cosine
from genai.models.seeds import seeded_uniform
from genai.models.vqvae.code_sampling import CodeSampling
from genai.models.vqvae.metrics import CodePerplexity, CodesUsed
from genai.models.vqvae.prior import corrupt_codes
from genai.models.vqvae.quantizers import FSQ, VectorQuantizer
from genai.models.vqvae.reconstruction import BinaryCrossEntropy, Pixelwise
from genai.models.vqvae.vqvae import VQVAE
from genai.networks.codec import GridDecoder, GridEncoder
from genai.networks.transformer import Cache, Transformer

ROOT = Path(__file__).parent.parent.parent
SHAPE = (1, 8, 8)
codec = {"channels": [16], "num_blocks": [1], "patch_size": 4}  # 2x2 codes
tiny_prior = partial(Transformer, dim=16, depth=2, num_heads=2)


def tiny(**options: Any) -> VQVAE:
    torch.manual_seed(0)
    options = {
        "tokenizer_kimg": 0.032,
        "encoder": partial(GridEncoder, **codec),
        "decoder": partial(GridDecoder, **codec),
        "prior": tiny_prior,
        "quantizer": VectorQuantizer(16, 4),
        "tokenizer_optimizer": partial(Adam, lr=1e-2),
        "prior_optimizer": partial(Adam, lr=1e-2),
    } | options
    return VQVAE(SHAPE, 3, **options).eval()


def random_model(**options: Any) -> VQVAE:
    """A model in which everything matters."""
    model = tiny(**options)
    for parameter in model.averaged.parameters():
        parameter.data.normal_(0, 0.4)
    return model


def fit(model: VQVAE, num_batches: int, **options: Any) -> L.Trainer:
    """Train on batches of 8 random images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8 * num_batches, *SHAPE, generator=generator) * 2 - 1
    labels = torch.randint(3, (len(images),), generator=generator)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, **quiet, **options)
    trainer.fit(model.train(), DataLoader(TensorDataset(images, labels), batch_size=8))
    return trainer


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def is_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


# -- two stages -------------------------------------------------------------------------------------------------------------


class Stages(L.Callback):
    """Notes after each batch what has changed in it."""

    def __init__(self) -> None:
        self.changed: list[set[str]] = []

    def on_train_batch_start(self, trainer: L.Trainer, model: VQVAE, *_: Any) -> None:
        self.before = {name: state(part) for name, part in self.parts(model)}

    def on_train_batch_end(self, trainer: L.Trainer, model: VQVAE, *_: Any) -> None:
        self.changed.append({name for name, part in self.parts(model) if not is_same(state(part), self.before[name])})

    def parts(self, model: VQVAE) -> list[tuple[str, nn.Module]]:
        averaged = [("averaged tokenizer", model.averaged_network.tokenizer), ("averaged prior", model.averaged_network.prior)]
        return [("tokenizer", model.tokenizer), ("prior", model.prior), *averaged]


@pytest.mark.parametrize("quantizer", [VectorQuantizer(16, 4), FSQ([3, 3])])
def test_the_tokenizer_is_trained_first_and_then_the_prior(quantizer) -> None:
    """32 images are four batches; then both copies of the tokenizer are the averaged one, for good."""
    model, stages = tiny(quantizer=quantizer), Stages()
    fit(model, 7, callbacks=[stages])
    first, second = {"tokenizer", "averaged tokenizer"}, {"prior", "averaged prior"}
    assert stages.changed == [first] * 4 + [second] * 3
    assert is_same(state(model.tokenizer), state(model.averaged_network.tokenizer))


def test_each_stage_has_its_own_schedule() -> None:
    rates: list[float] = []

    class Rates(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, model: VQVAE, *_: Any) -> None:
            which = 0 if len(rates) < 4 else 1
            rates.append(trainer.optimizers[which].param_groups[0]["lr"])

    one, two = Cosine(kimg=0.032, end=0.1), Cosine(kimg=0.024, start=1.0, end=0.5, warmup_kimg=0.008)
    model = tiny(
        tokenizer_optimizer=partial(SGD, lr=0.1),
        prior_optimizer=partial(SGD, lr=0.01),
        tokenizer_schedule=one,
        prior_schedule=two,
    )
    fit(model, 7, callbacks=[Rates()])
    assert rates == pytest.approx([0.1 * one(8 * i) for i in range(4)] + [0.01 * two(8 * i) for i in range(3)])


def test_a_fit_that_ends_in_the_first_stage_says_so() -> None:
    with pytest.warns(UserWarning, match=r"its training begins after 0.032 thousand images, 0.016 were seen"):
        fit(tiny(), 2)


@pytest.mark.parametrize("num_batches", [3, 6], ids=["tokenizer", "prior"])
def test_a_batch_in_parts_is_a_batch(num_batches: int) -> None:
    """Statistics of the codes and their revival are of the whole batch."""
    plain = {"tokenizer_optimizer": partial(SGD, lr=0.1), "prior_optimizer": partial(SGD, lr=0.1)}
    whole, parts = tiny(**plain), tiny(num_microbatches=3, **plain)
    for model in (whole, parts):
        torch.manual_seed(1)
        fit(model, num_batches)
    one, other = state(whole), state(parts)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("max_steps", [3, 6], ids=["tokenizer", "prior"])
def test_max_steps_counts_batches(max_steps: int) -> None:
    model = tiny()
    assert fit(model, 8, max_steps=max_steps).global_step == max_steps
    assert model.images_seen == 8 * max_steps


def test_the_trainer_flags_have_options_of_the_model() -> None:
    """Lightning refuses these flags for a model that optimises by hand."""
    options = inspect.signature(VQVAE).parameters
    assert VQVAE.MANUAL_FLAGS.keys() == {"gradient_clip_val", "accumulate_grad_batches"}
    assert set(VQVAE.MANUAL_FLAGS.values()) <= options.keys()
    with pytest.raises(UserError, match="use 1 or more"):
        tiny(num_microbatches=0)


def test_max_grad_norm_bounds_the_step_of_each_stage() -> None:
    plain = {"tokenizer_optimizer": partial(SGD, lr=1.0), "prior_optimizer": partial(SGD, lr=1.0)}
    model = tiny(max_grad_norm=0.01, tokenizer_kimg=0.008, **plain)
    before = [torch.cat([p.detach().flatten() for p in part.parameters()]) for part in (model.tokenizer, model.prior)]
    fit(model, 2)
    tokenizer, prior = model.tokenizer, model.prior
    steps = [torch.cat([p.detach().flatten() for p in part.parameters()]) for part in (tokenizer, prior)]
    assert float((steps[1] - before[1]).norm()) == pytest.approx(0.01, rel=1e-3)
    assert not torch.equal(steps[0], before[0])


def test_a_loss_that_is_not_finite_stops_before_a_weight_changes() -> None:
    model = tiny(reconstruction=Pixelwise(squared=float("inf")))
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(UserError, match=r"not finite .* in step 1, after 0 images"):
        fit(model, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_decoder_of_another_shape_is_refused_at_once() -> None:
    with pytest.raises(UserError, match=r"makes images of shape \(1, 4, 4\), but the data has \(1, 8, 8\)"):
        tiny(decoder=partial(GridDecoder, channels=[16], num_blocks=[1], patch_size=2))


FIT = ["-c", str(ROOT / "configs/digits/vqvae.yaml"), "--tracker", "none", "--trainer.enable_progress_bar", "false"]
FIT += ["--trainer.enable_model_summary", "false", "--evaluation.every_n_epochs", "0", "--gallery.every_n_epochs", "0"]
FIT += ["--trainer.precision", "32", "--trainer.limit_train_batches", "9"]
FIT += ["--model.init_args.tokenizer_kimg", "0.8", "--model.init_args.prior.init_args.dim", "36"]
FIT += ["--model.init_args.encoder.init_args.channels", "[16]", "--model.init_args.decoder.init_args.channels", "[16]"]


def last(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    return content


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs of 576 digits at a stretch; the second stage begins in the second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENAI_RUNS", str(tmp_path_factory.mktemp("whole") / "runs"))
        assert main(["fit", *FIT, "--trainer.max_epochs", "3"]) == 0
        return runs.find("digits-vqvae").path


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [pytest.param(1, id="tokenizer", marks=pytest.mark.long), pytest.param(2, id="prior")])
def test_resume_is_exact_in_either_stage(epochs: int, uninterrupted: Path, workspace: Path) -> None:
    assert main(["fit", *FIT, "--trainer.max_epochs", str(epochs)]) == 0
    run = runs.find("digits-vqvae").path
    assert (last(run)["images_seen"] < 800) == (epochs == 1)
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs", "3"]) == 0
    one, other = last(run), last(uninterrupted)
    assert one["images_seen"] == other["images_seen"] == 3 * 576
    assert one["state_dict"].keys() == other["state_dict"].keys()
    assert is_same(one["state_dict"], other["state_dict"])


def test_the_prior_is_scored_from_the_second_stage_on(uninterrupted: Path) -> None:
    with (uninterrupted / "metrics.csv").open(newline="") as file:
        first, second, third = (row for row in csv.DictReader(file) if row["val/reconstruction"])
    assert not first["val/prior_nats"]
    assert 0 < float(second["val/prior_nats"]) < 2.9  # ln 16 = 2.77, plus the noise of the untrained prior
    assert float(third["val/prior_nats"]) < float(second["val/prior_nats"])
    assert 4 < float(third["val/perplexity"]) < float(third["val/codes_used"]) <= 16


# -- codes and images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reconstruction", [Pixelwise(), BinaryCrossEntropy()])
def test_reconstruction_is_deterministic_and_of_the_averaged_weights(reconstruction) -> None:
    model, x = random_model(reconstruction=reconstruction), torch.rand(5, *SHAPE) * 2 - 1
    once = model.train().reconstruct(x)
    for parameter in model.tokenizer.parameters():
        parameter.data.zero_()
    assert torch.equal(model.reconstruct(x), once)
    assert once.shape == x.shape
    assert once.abs().max() <= 1
    codes = model.averaged_network.tokenizer.encode(x)
    assert (codes.shape, codes.dtype) == ((5, 2, 2), torch.int64)
    assert torch.equal(model.averaged_network.tokenizer.decode(codes), once)
    assert len(codes.unique()) > 1


def test_the_tokenizer_learns_to_reconstruct() -> None:
    """Images of one of four grey values: few codes keep all of it."""
    torch.manual_seed(0)
    model = tiny(quantizer=VectorQuantizer(8, 4, decay=0.9)).train()
    optimizer = torch.optim.Adam(model.tokenizer.parameters(), 1e-2)
    for _ in range(60):
        x = (torch.randint(4, (16, 1, 1, 1)) / 2 - 0.75).expand(-1, *SHAPE)
        output = model.tokenizer(x)
        optimizer.zero_grad()
        model.tokenizer.loss(output, x).mean().backward()
        optimizer.step()
        model.tokenizer.update_codebook([output])
    assert float(model.tokenizer.reconstruction(output.decoded, x).mean()) < 0.01  # the variance is 0.3
    assert len(output.quantized.indices.unique()) >= 4


def test_codebook_metrics_count_over_batches() -> None:
    used, evenness = CodesUsed(5), CodePerplexity(5)
    for codes in (torch.tensor([[[0, 0], [0, 0]], [[1, 1], [1, 1]]]), torch.tensor([[[3, 3], [3, 3]]])):
        used.update(codes)
        evenness.update(codes)
    assert float(used.compute()) == 3
    assert float(evenness.compute()) == pytest.approx(3.0)


def test_metrics_of_a_split() -> None:
    """Means over all images of batches of 8 and 4: `code_bits_per_dim` is the cost of 4 codes over 64 pixels."""
    model = random_model()
    model.images_seen = 32  # the second stage
    images, labels = torch.rand(12, *SHAPE) * 2 - 1, torch.zeros(12, dtype=torch.long)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", **quiet)
    (got,) = trainer.validate(model, DataLoader(TensorDataset(images, labels), batch_size=8), verbose=False)
    with torch.no_grad():
        output = model.averaged_network.tokenizer(images)
        nats = model.averaged_network.prior.nats(output.quantized.indices, output.quantized.indices, None)
    assert got["val/reconstruction"] == pytest.approx(float((output.decoded - images).square().mean()), rel=1e-4)
    assert got["val/prior_nats"] == pytest.approx(float(nats.mean()), rel=1e-4)
    assert got["val/code_bits_per_dim"] == pytest.approx(4 * float(nats.mean()) / 64 / math.log(2), rel=1e-4)
    assert got["val/codes_used"] == len(output.quantized.indices.unique())


def test_binary_cross_entropy_is_least_at_the_image() -> None:
    x = torch.rand(4, *SHAPE) * 1.8 - 0.9
    exact = torch.logit((x + 1) / 2)
    distance = BinaryCrossEntropy()
    torch.testing.assert_close(distance.image(exact), x)
    for other in (exact + 0.1, exact - 0.1):
        assert bool((distance(other, x) > distance(exact, x)).all())


def test_pixelwise_closed_form() -> None:
    x = torch.zeros(1, *SHAPE)
    torch.testing.assert_close(Pixelwise(squared=2.0, absolute=3.0)(x + 0.5, x), torch.tensor([2 * 0.25 + 3 * 0.5]))


# -- sampling ---------------------------------------------------------------------------------------------------------------


def test_codes_are_sampled_where_the_cumulative_probability_passes_u() -> None:
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(6, 4)
    u = torch.tensor([0.0, 0.0999, 0.1001, 0.31, 0.59, 0.999])
    assert CodeSampling().sample(logits, u).tolist() == [0, 0, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("code_sampling", "expected"),
    [
        (CodeSampling(), [0.1, 0.2, 0.3, 0.4]),
        (CodeSampling(temperature=0.5), [1 / 30, 4 / 30, 9 / 30, 16 / 30]),
        (CodeSampling(temperature=0), [0.0, 0.0, 0.0, 1.0]),
        (CodeSampling(top_k=2), [0.0, 0.0, 3 / 7, 4 / 7]),
        (CodeSampling(top_k=9), [0.1, 0.2, 0.3, 0.4]),
        (CodeSampling(top_p=0.65), [0.0, 0.0, 3 / 7, 4 / 7]),
        (CodeSampling(top_p=0.75), [0.0, 2 / 9, 3 / 9, 4 / 9]),
        (CodeSampling(top_p=0.01), [0.0, 0.0, 0.0, 1.0]),
    ],
)
def test_probabilities_of_each_way_to_sample(code_sampling: CodeSampling, expected: list[float]) -> None:
    p = code_sampling.probabilities(torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log())[0]
    torch.testing.assert_close(p / p.sum(), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="use temperature >= 0"):
        CodeSampling(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "guidance_scale": 2.0}])
def test_an_image_depends_on_its_own_seed_and_condition_only(settings: dict[str, float]) -> None:
    model = random_model(conditional=True)
    seeds, labels = list(range(20)), torch.arange(20) % 3
    many = model.sample(seeds, labels, **settings)
    assert torch.equal(model.sample([7], labels[7:8], **settings), many[7:8])
    assert torch.equal(model.sample(list(range(200)), torch.arange(200) % 3, **settings)[:20], many)
    assert len(many.flatten(1).unique(dim=0)) > 10


def test_sampling_with_a_cache_gives_the_codes_of_the_whole_prior() -> None:
    model = random_model(conditional=True)
    condition = torch.eye(3)[[0, 1, 2, 0]]
    u = seeded_uniform([1, 2, 3, 4], (4,), torch.device("cpu"))
    with torch.no_grad():
        cached = model.averaged_network.prior.sample(u, condition, CodeSampling()).flatten(1)
        tokens = torch.empty(4, 0, dtype=torch.long)
        for i in range(4):
            sampled = CodeSampling().sample(model.averaged_network.prior.network(tokens, condition)[:, -1], u[:, i])
            tokens = torch.cat([tokens, sampled[:, None]], dim=1)
    assert torch.equal(cached, tokens)


def test_guidance() -> None:
    prior = random_model(conditional=True).averaged_network.prior
    labels = torch.tensor([0, 1])
    with torch.no_grad():
        start = torch.empty(2, 0, dtype=torch.long)
        conditional, unconditional, guided = (
            prior.next_logits(encode_labels(label, 3), scale)(start)
            for label, scale in ((labels, 1.0), (labels - 9, 1.0), (labels, 3.0))
        )
    torch.testing.assert_close(guided, unconditional + 3 * (conditional - unconditional))
    with pytest.raises(UserError, match="needs a conditional model"):
        random_model().sample([0], guidance_scale=2.0)


def markov_codes(labels: Tensor) -> Tensor:
    """(N, 2, 2): the first code is 2 y or, one time in four, 2 y + 1; each later one goes up by one, or stays, evenly."""
    first = 2 * labels + (torch.rand(len(labels)) < 0.25)
    steps = torch.randint(2, (len(labels), 3)).cumsum(dim=1)
    return torch.cat([first[:, None], first[:, None] + steps], dim=1).unflatten(1, (2, 2))


class Plain(nn.Module):
    """A decoder that is known: codes, as numbers, are the pixels."""

    def __init__(self, image_shape: tuple[int, int, int], dim: int) -> None:
        super().__init__()

    def forward(self, z: Tensor) -> Tensor:
        return z[:, :1].repeat_interleave(4, 2).repeat_interleave(4, 3)


@pytest.mark.slow
def test_samples_follow_a_distribution_that_the_prior_has_learned() -> None:
    """Class y starts with 2 y in three of four images and goes up in half of the steps; the nats are the entropies."""
    model = tiny(conditional=True, decoder=Plain, quantizer=VectorQuantizer(12, 1))
    model.averaged_network.tokenizer.quantizer.codebook.copy_(torch.arange(12.0)[:, None] / 12)  # type: ignore[operator, union-attr]
    prior = model.averaged_network.prior.requires_grad_(True)
    optimizer = torch.optim.Adam(prior.parameters(), 5e-3)
    for _ in range(300):
        labels = torch.randint(3, (64,))
        codes = markov_codes(labels)
        nats = prior.nats(codes, codes, encode_labels(labels, 3))
        optimizer.zero_grad()
        nats.mean().backward()
        optimizer.step()
    assert nats.detach().mean(dim=0).tolist() == pytest.approx([0.562, 0.693, 0.693, 0.693], abs=0.15)
    labels = torch.arange(600) % 3
    codes = (12 * model.sample(range(600), labels)[:, 0, ::4, ::4]).round().long().flatten(1)  # (600, 4)
    first = codes[:, 0] - 2 * labels
    assert float((first == 0).float().mean()) == pytest.approx(0.75, abs=0.06)
    assert float(((first == 0) | (first == 1)).float().mean()) > 0.98
    climbs = codes.diff(dim=1)
    assert float((climbs == 1).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert float(((climbs == 0) | (climbs == 1)).float().mean()) > 0.95


def test_a_share_of_the_codes_is_corrupted() -> None:
    torch.manual_seed(0)
    codes = torch.full((50, 7, 7), 3)
    assert torch.equal(corrupt_codes(codes, 10, 0.0), codes)
    corrupted = corrupt_codes(codes, 10, 0.2)
    assert float((corrupted != codes).float().mean()) == pytest.approx(0.2 * 0.9, abs=0.03)
    assert set(corrupted.unique().tolist()) == set(range(10))


def test_the_prior_predicts_the_true_codes_from_corrupted_inputs() -> None:
    prior, codes = random_model().averaged_network.prior, torch.randint(16, (4, 2, 2))
    inputs = codes.clone()
    inputs[:, 0, 1] = (codes[:, 0, 1] + 1) % 16
    true, misled = prior.nats(codes, codes, None).detach(), prior.nats(codes, inputs, None).detach()
    torch.testing.assert_close(misled[:, :2], true[:, :2])
    assert not torch.allclose(misled[:, 2:], true[:, 2:])


def test_exported_weights_sample_the_same_images() -> None:
    model = random_model(conditional=True)
    other = tiny(conditional=True)
    other.import_state(model.export_state())
    labels = torch.tensor([0, 1, 2])
    assert torch.equal(other.sample([1, 2, 3], labels), model.sample([1, 2, 3], labels))
    assert not other.trains_tokenizer
    assert model.trains_tokenizer


def test_a_run_of_both_stages_samples(uninterrupted: Path, workspace: Path) -> None:
    model = runs.load(str(uninterrupted), "last")
    assert isinstance(model, VQVAE)
    assert not model.trains_tokenizer
    assert model.sample([0], torch.tensor([4])).shape == SHAPE_OF_DIGITS
    assert main(["sample", str(uninterrupted), "--checkpoint", "last", "--label", "4", "--num", "3", "--out", "four.png"]) == 0
    assert Path("four.png").is_file()


SHAPE_OF_DIGITS = (1, 1, 8, 8)


def test_a_cache_belongs_to_its_sequences() -> None:
    """Two caches at a time do not mix."""
    prior = random_model().averaged_network.prior.network
    first, second = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6]])
    caches = Cache(), Cache()
    with torch.no_grad():
        for i in range(3):
            for tokens, cache in ((first, caches[0]), (second, caches[1])):
                logits = prior(tokens[:, i : i + 1], None, cache)
        torch.testing.assert_close(logits[:, -1], prior(second)[:, -1], rtol=1e-4, atol=1e-4)
