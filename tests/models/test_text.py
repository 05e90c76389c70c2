"""The contract of text models: likelihood, causality, caches, sampling, for every network."""

import copy
import itertools
import math
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn

from genai.data.pydocs import PyDocs
from genai.data.tokenizers import BytePairs, Bytes
from genai.errors import UserError
from genai.metrics.text import LN2
from genai.models.autoregressive.autoregressive import Autoregressive
from genai.models.autoregressive.muon import Float32Muon
from genai.models.autoregressive.ngram import NGram
from genai.models.autoregressive.optimizers import CombinedOptimizer, optimizer_of
from genai.models.seeds import image_seeds
from genai.models.text import TextModel
from genai.models.token_sampling import TokenSampling
from genai.networks.hidden_markov import HiddenMarkov
from genai.networks.recurrent import LSTM, MinGRU, scan_in_order, scan_in_parallel
from genai.networks.transformer import Cache, Transformer, attention_maps

V, T = 11, 16
NETWORKS = {
    "transformer": {
        "class_path": "genai.networks.transformer.Transformer",
        "init_args": {"dim": 16, "depth": 2, "num_heads": 2, "positions": "rotary"},
    },
    "lstm": {"class_path": "genai.networks.recurrent.LSTM", "init_args": {"dim": 12, "depth": 2}},
    "mingru": {"class_path": "genai.networks.recurrent.MinGRU", "init_args": {"dim": 12, "depth": 2}},
    "hmm": {"class_path": "genai.networks.hidden_markov.HiddenMarkov", "init_args": {"num_states": 5}},
}
ALL = [*NETWORKS, "ngram"]


def build(name: str) -> TextModel:
    """A model with random weights, or counts of random tokens."""
    torch.manual_seed(0)
    if name == "ngram":
        ngram = NGram(V, T, order=3)
        ngram.network.add(torch.randint(V, (4, 60)))
        return ngram.eval()
    model = Autoregressive(V, T, network=NETWORKS[name])
    model.initialise_from({key: torch.randn_like(value) / 2 for key, value in model.network.state_dict().items()})
    return model.eval()


@pytest.fixture(params=ALL)
def model(request: pytest.FixtureRequest) -> TextModel:
    return build(request.param)


def tokens(num: int = 2, length: int = T + 1) -> torch.Tensor:
    return torch.randint(V, (num, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["transformer", "lstm", "mingru"])
def test_an_untrained_model_is_uniform(name: str) -> None:
    model = Autoregressive(V, T, network=NETWORKS[name])
    torch.testing.assert_close(model.log_probs(tokens()), torch.full((2, T + 1), -math.log(V)))


def test_probabilities_of_every_next_token_sum_to_one(model: TextModel) -> None:
    following = model.next_log_probs(tokens()[:, :5], Cache())
    torch.testing.assert_close(following.exp().sum(dim=1), torch.ones(2))
    each = [model.log_probs(torch.cat([tokens()[:, :5], torch.full((2, 1), v)], dim=1))[:, -1] for v in range(V)]
    torch.testing.assert_close(torch.stack(each, dim=1).float(), following, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("at", [0, 7, T - 1])
def test_a_token_changes_nothing_before_it(model: TextModel, at: int) -> None:
    before = tokens()[:, :T]
    changed = before.clone()
    changed[:, at] = (changed[:, at] + 1) % V
    one, two = model.network(before), model.network(changed)
    torch.testing.assert_close(one[:, : at + 1], two[:, : at + 1], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(one[:, at + 1], two[:, at + 1])


def test_the_cache_equals_the_full_pass(model: TextModel) -> None:
    x = tokens()[:, :T]
    full, cache = model.network(x), Cache()
    parts = [model.network(x[:, :0], cache=cache), model.network(x[:, :5], cache=cache)]
    parts += [model.network(x[:, i : i + 1], cache=cache) for i in range(5, T)]
    torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=1e-4, atol=1e-5)


def test_a_text_is_read_in_windows(model: TextModel) -> None:
    text = tokens(1, 2 * T + 5)[0]
    found = model.text_log_probs(text)
    windows = [text[start : start + T + 1] for start in range(0, 2 * T + 5, T)]
    expected = [model.log_probs(window[None])[0] for window in windows]
    joined = torch.cat([expected[0], *(part[1:] for part in expected[1:])]).double()
    torch.testing.assert_close(found, joined, rtol=1e-4, atol=1e-5)
    every = model.text_log_probs(text, stride=1)
    last = model.log_probs(text[None, -T - 1 :])[0, -1].double()
    torch.testing.assert_close(every[-1], last, rtol=1e-4, atol=1e-5)
    assert len(every) == len(text)
    with pytest.raises(UserError, match="stride 0"):
        model.text_log_probs(text, stride=0)


def test_a_sample_depends_on_its_seed_alone(model: TextModel) -> None:
    seeds, prompt = image_seeds(3, 10), tokens()[0, :3]
    many = model.sample(seeds, prompt, num_tokens=2 * T)
    assert many.shape == (10, 2 * T)
    assert torch.equal(model.sample(seeds[4:6], prompt, num_tokens=2 * T), many[4:6])
    assert torch.equal(model.sample(seeds[:1], prompt, num_tokens=5), many[:1, :5])
    assert len({tuple(row.tolist()) for row in many}) == 10


def test_samples_follow_the_next_token_distribution(model: TextModel) -> None:
    prompt = tokens()[0, :4]
    expected = model.next_log_probs(prompt[None], Cache())[0].exp()
    first = model.sample(image_seeds(0, 1500), prompt, num_tokens=1)[:, 0]
    counts = torch.bincount(first, minlength=V)
    chi2 = ((counts - 1500 * expected).square() / (1500 * expected)).sum()
    assert float(chi2) < 37.6  # 10 degrees of freedom, p = 0.00005
    greedy = model.sample(image_seeds(0, 2), prompt, num_tokens=1, temperature=0)
    assert greedy.flatten().tolist() == [int(expected.argmax())] * 2


def test_a_transformer_goes_on_with_half_of_its_context() -> None:
    model = build("transformer")
    sampled = model.sample([1], None, num_tokens=T + 8, temperature=0)[0]
    assert sampled[: T + 1].tolist() == greedy(model, torch.empty(0, dtype=torch.long), T + 1)
    assert sampled[T + 1 :].tolist()[0] == greedy(model, sampled[T + 1 - (T // 2 + 1) : T + 1], 1)[0]


def greedy(model: TextModel, known: torch.Tensor, num: int) -> list[int]:
    found = []
    for _ in range(num):
        token = model.network(known[None])[0, -1].argmax()
        found.append(int(token))
        known = torch.cat([known, token[None]])
    return found


def test_bits_per_byte_do_not_depend_on_the_tokenizer() -> None:
    """A model of bytes and the same model of byte pairs: the probability of a text is the same number of bits."""
    pairs = BytePairs.train(["the theme of the thesis " * 9], 280, has_end=False)
    text = "the theme"
    log_p_of_byte = torch.randn(256, generator=torch.Generator().manual_seed(0)).double().log_softmax(dim=0)
    bits = []
    for tokenizer in (Bytes(has_end=False), pairs):
        log_p = torch.tensor([sum(float(log_p_of_byte[byte]) for byte in piece) for piece in tokenizer.pieces])
        encoded = tokenizer.encode(text)
        bits.append(-float(log_p[torch.from_numpy(encoded)].sum()) / LN2 / tokenizer.num_bytes[encoded].sum())
    assert bits[0] == pytest.approx(bits[1], rel=1e-6)


def test_the_likelihood_of_a_hidden_markov_model_is_that_of_brute_force() -> None:
    torch.manual_seed(0)
    network = HiddenMarkov(4, T, num_states=3)
    nn.init.normal_(network.initial)
    start, move, emit = network.initial.softmax(0), network.transition.softmax(1), network.emission.softmax(1)
    observed = [2, 0, 3, 1, 1]
    total = torch.zeros(())
    for path in itertools.product(range(3), repeat=5):
        p = start[path[0]] * emit[path[0], observed[0]]
        for t in range(1, 5):
            p = p * move[path[t - 1], path[t]] * emit[path[t], observed[t]]
        total = total + p
    model = Autoregressive(4, T, network=NETWORKS["hmm"])
    model.network, model.averaged.network = network, network
    assert float(model.log_probs(torch.tensor([observed])).detach().sum()) == pytest.approx(
        math.log(float(total.detach())), rel=1e-5
    )


def test_the_scans_of_mingru_agree() -> None:
    torch.manual_seed(0)
    for length in (1, 2, 7, 16):
        keep, values = torch.rand(2, length, 3), torch.randn(2, length, 3)
        torch.testing.assert_close(scan_in_parallel(keep, values), scan_in_order(keep, values))


def test_attention_maps_are_causal_distributions() -> None:
    model = build("transformer")
    maps = attention_maps(model.network, tokens()[:, :5])
    assert maps.shape == (2, 2, 2, 6, 6)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(2, 2, 2, 6))
    assert maps.triu(1).eq(0).all()


def test_muon_in_float32_is_torchs_muon() -> None:
    torch.manual_seed(0)
    for adjust in ("original", "match_rms_adamw"):
        ours, theirs = (nn.Parameter(torch.ones(6, 20)) for _ in range(2))
        options = {"lr": 0.1, "weight_decay": 0.1, "adjust_lr_fn": adjust}
        optimizers = Float32Muon([ours], **options), torch.optim.Muon([theirs], **options)
        for _ in range(4):
            ours.grad = torch.randn(6, 20)
            theirs.grad = ours.grad.clone()
            for optimizer in optimizers:
                optimizer.step()
        assert float((ours - theirs).detach().norm() / (ours - 1).detach().norm()) < 0.05  # bfloat16


def test_combined_optimisers_step_save_and_load_like_one() -> None:
    def make() -> tuple[list[nn.Parameter], CombinedOptimizer]:
        torch.manual_seed(0)
        p = [nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(6))]
        return p, CombinedOptimizer([Float32Muon(p[:1], lr=0.1), torch.optim.AdamW(p[1:], lr=0.2)])

    def step(parameters: list[nn.Parameter], optimizer: CombinedOptimizer) -> None:
        optimizer.zero_grad()
        sum(p.pow(3).sum() for p in parameters).backward()
        optimizer.step()

    whole, optimizer = make()
    for _ in range(3):
        step(whole, optimizer)
    state = copy.deepcopy(optimizer.state_dict())
    resumed, again = make()
    for p, q in zip(resumed, whole, strict=True):
        p.data.copy_(q.data)
    again.load_state_dict(state)
    for group in again.param_groups:
        group["lr"] *= 0.5
    for group in optimizer.param_groups:
        group["lr"] *= 0.5
    step(whole, optimizer)
    step(resumed, again)
    assert all(torch.equal(p, q) for p, q in zip(whole, resumed, strict=True))


def losses(precision: str = "32", **options: Any) -> list[float]:
    """The training losses of four steps."""
    torch.manual_seed(0)
    data = PyDocs(context_length=T, batch_size=4, seed=0)
    model = Autoregressive(data.vocab_size, T, network=NETWORKS["transformer"], **options)
    found: list[float] = []
    model.log = lambda name, value, **_: found.append(float(value)) if name == "train/loss" else None  # type: ignore[method-assign]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    quiet["log_every_n_steps"] = 1
    L.Trainer(max_steps=4, accelerator="cpu", precision=precision, limit_val_batches=0, **quiet).fit(model, data)  # type: ignore[arg-type]
    return found


@pytest.mark.slow
def test_compiled_and_in_bfloat16_it_trains_the_same() -> None:
    plain = losses()
    assert plain[-1] < plain[0] - 0.01
    assert losses(compile="eager") == pytest.approx(plain, rel=1e-4)
    half = losses("bf16-mixed")
    assert half != plain
    assert half == pytest.approx(plain, rel=0.02)


def test_sharded_matrices_take_no_muon() -> None:
    trainer: Any = SimpleNamespace(strategy=FSDPStrategy())
    with pytest.raises(UserError, match="FSDP gives each device a part of a matrix"):
        optimizer_of(build("transformer").network, torch.optim.AdamW, Float32Muon, trainer)  # type: ignore[arg-type]


def test_a_network_without_matrices_takes_no_muon() -> None:
    with pytest.raises(UserError, match="LSTM has no hidden matrices"):
        Autoregressive(V, T, network=NETWORKS["lstm"], matrix_optimizer=Float32Muon)  # type: ignore[arg-type]


def test_matrices_are_those_of_the_blocks() -> None:
    for network in (Transformer(V, T, dim=8, num_heads=2), MinGRU(V, T, dim=8)):
        names = {id(p): name for name, p in network.named_parameters()}
        assert all(names[id(p)].startswith("blocks.") and "convolution" not in names[id(p)] for p in network.hidden_matrices())
    assert not hasattr(LSTM(V, T), "hidden_matrices")
    assert np.isfinite(sum(float(p.sum()) for p in MinGRU(V, T).parameters()))


def test_top_k_keeps_k_tokens_where_probabilities_are_equal_and_no_temperature_is_too_small() -> None:
    assert TokenSampling(top_k=1).probabilities(torch.zeros(1, 5)).tolist() == [[1, 0, 0, 0, 0]]
    kept = TokenSampling(top_k=2).probabilities(torch.tensor([[0.0, 1, 0, 0, 1, 1]]))[0]
    assert kept.tolist() == [0, 0.5, 0, 0, 0.5, 0]
    cold = TokenSampling(temperature=1e-320).probabilities(torch.tensor([[0.0, 3, 1]]))
    assert cold.tolist() == [[0, 1, 0]]
