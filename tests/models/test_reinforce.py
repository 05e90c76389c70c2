"""REINFORCE: the exact gradient of a two-token toy, TRL's formula on fixed logits, and what a fit does."""

import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn

from genai.cli import main
from genai.data.arithmetic import Sums
from genai.errors import UserError
from genai.models.autoregressive.autoregressive import Autoregressive
from genai.models.autoregressive.ngram import NGram
from genai.models.autoregressive.reinforce import Reinforce, sample_completions
from genai.models.autoregressive.rewards import LabelOfText, LastDigit, Length, RightSum
from genai.models.policy_gradient import SampledTokens, group_advantages, kl_of_tokens, reinforce_loss, token_mean
from genai.networks.transformer import Transformer
from genai.runs import REPOSITORY, find
from tests.test_configs import QUICK, data_or_skip

SMALL = {"class_path": "genai.networks.transformer.Transformer", "init_args": {"dim": 16, "depth": 1, "num_heads": 2}}
GPT, RL = (str(REPOSITORY / f"configs/arithmetic/{name}.yaml") for name in ("gpt", "rl"))


def test_the_expected_gradient_is_exact_on_two_tokens() -> None:
    """Two steps with two tokens each, groups of two: over all groups, E[gradient] = (G - 1) / G of that of E[r], per token."""
    theta = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    texts = list(itertools.product(range(2), repeat=2))
    reward = dict(zip(texts, (0.3, -1.0, 2.0, 0.5), strict=True))

    def log_p(text: tuple[int, ...]) -> torch.Tensor:  # ln p of every token at both positions: (2, V)
        return torch.stack([theta[0], theta[1 + text[0]]]).log_softmax(dim=1)

    def probability(text: tuple[int, ...]) -> torch.Tensor:
        return log_p(text).gather(1, torch.tensor(text)[:, None]).sum().exp()

    (exact,) = torch.autograd.grad(sum(probability(text) * reward[text] for text in texts), theta)
    expected = torch.zeros_like(theta)
    for group in itertools.product(texts, repeat=2):
        tokens = torch.tensor(group)
        advantages = group_advantages(torch.tensor([reward[text] for text in group], dtype=torch.float64), 2)
        sampled = SampledTokens(tokens, torch.ones_like(tokens, dtype=torch.bool))
        loss = reinforce_loss(torch.stack([log_p(text) for text in group]), sampled, advantages)
        (gradient,) = torch.autograd.grad(loss, theta)
        expected -= (probability(group[0]) * probability(group[1])).detach() * gradient
    num_tokens, share = 2, 1 / 2  # of each text; (G - 1) / G
    torch.testing.assert_close(expected, share * exact / num_tokens)


def test_the_gradient_is_that_of_the_clipped_token_level_loss() -> None:
    """TRL's `bnpo`: sum over tokens of -min(ratio A, clipped ratio A) / tokens, at the first update, on fixed logits."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 5, 7, generator=generator, dtype=torch.float64).requires_grad_()
    tokens = torch.randint(7, (4, 5), generator=generator)
    is_new = torch.tensor([[0, 1, 1, 1, 0], [0, 1, 0, 0, 0], [0, 1, 1, 1, 1], [0, 1, 1, 0, 0]]).bool()
    rewards = torch.tensor([1.0, 0.0, 0.5, 0.0], dtype=torch.float64)
    advantages = group_advantages(rewards, 2)
    assert advantages.tolist() == [0.5, -0.5, 0.25, -0.25]
    loss = reinforce_loss(logits.log_softmax(dim=-1), SampledTokens(tokens, is_new), advantages)
    log_p = logits.log_softmax(dim=-1).gather(2, tokens[..., None])[..., 0]
    manual = -sum(float(advantages[i]) * float(log_p[i, t].detach()) for i, t in is_new.nonzero().tolist()) / int(is_new.sum())
    assert float(loss) == pytest.approx(manual)
    ratio = (log_p - log_p.detach()).exp()
    both = torch.minimum(ratio * advantages[:, None], ratio.clamp(0.8, 1.2) * advantages[:, None])
    theirs = -(both * is_new).sum() / is_new.sum()
    torch.testing.assert_close(*(torch.autograd.grad(each, logits, retain_graph=True)[0] for each in (loss, theirs)))


def test_a_constant_reward_has_no_gradient() -> None:
    logits = torch.randn(4, 3, 5).requires_grad_()
    sampled = SampledTokens(torch.randint(5, (4, 3)), torch.ones(4, 3, dtype=torch.bool))
    loss = reinforce_loss(logits.log_softmax(dim=-1), sampled, group_advantages(torch.full((4,), 3.0), 2))
    assert torch.autograd.grad(loss, logits)[0].abs().max() == 0


def test_kl_is_zero_at_the_start_and_that_of_the_distributions_elsewhere() -> None:
    one, two = (torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(i)).log_softmax(dim=-1) for i in (0, 1))
    assert kl_of_tokens(one, one).abs().max() == 0
    expected = torch.distributions.kl_divergence(*(torch.distributions.Categorical(logits=p) for p in (one, two)))
    torch.testing.assert_close(kl_of_tokens(one, two), expected)
    is_new = torch.tensor([[True, True, False], [True, False, False]])
    assert float(token_mean(torch.arange(6.0).view(2, 3), is_new)) == pytest.approx((0 + 1 + 3) / 3)


def test_completions_follow_the_model_and_end_with_the_document() -> None:
    torch.manual_seed(0)
    network = Transformer(4, 8, dim=16, depth=1, num_heads=2).eval()
    nn.init.normal_(network.logits.weight)
    prompts = torch.tensor([[3, 0, 1]]).repeat(4000, 1)
    sampled = sample_completions(network, prompts, 3, end=3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sampled.tokens[:, :3], prompts)
    p = network(prompts[:1])[0, -1].softmax(dim=-1)
    shares = torch.bincount(sampled.tokens[:, 3], minlength=4) / 4000
    torch.testing.assert_close(shares, p, rtol=0, atol=0.04)
    for tokens, is_new in zip(sampled.tokens[:50, 3:].tolist(), sampled.is_new[:50, 3:].tolist(), strict=True):
        stop = tokens.index(3) + 1 if 3 in tokens else 3
        assert is_new == [i < stop for i in range(3)]


@pytest.mark.parametrize(
    ("reward", "completion", "value"),
    [(RightSum(), "42\n", 1), (RightSum(), "42", 0), (RightSum(), "43\n", 0), (Length(), "123", 3), (LastDigit(), "92\n", 1),
     (LastDigit(), "43\n", 0), (LastDigit(), "x\n", 0)],
)  # fmt: skip
def test_rewards(reward: Any, completion: str, value: float) -> None:
    assert reward(["17+25="], [completion]) == [value]


def test_the_reward_of_a_label_is_bayes_rule_for_each_text() -> None:
    torch.manual_seed(0)
    model = Autoregressive(257, 8, network=SMALL, num_classes=2)
    model.initialise_from({name: torch.randn_like(value) / 2 for name, value in model.network.state_dict().items()})
    rewards = [LabelOfText("some-run", label) for label in (0, 1)]
    for reward in rewards:
        reward.use(model)
    texts = ["a", "Of man's\nfirst", "", "x  y"]
    both = torch.tensor([reward(["", "", "", ""], texts) for reward in rewards])
    torch.testing.assert_close(both.exp().sum(dim=0), torch.ones(4))
    assert both[0, 2] == pytest.approx(math.log(1 / 2))  # an empty text says nothing
    text = torch.tensor([[256, *b"x y"]])
    log_p = torch.stack([model.log_probs(text, torch.tensor([label]))[:, 1:].sum() for label in (0, 1)])
    torch.testing.assert_close(both[:, 3], log_p.log_softmax(dim=0).detach())
    with pytest.raises(UserError, match="configs/authors"):
        LabelOfText("some-run", 2).use(model)


def test_counts_of_labelled_texts_reward_too() -> None:
    model, texts = NGram(257, 8, order=2, num_classes=2), (b"abababab", b"acacacac")
    model.network.add(torch.tensor([[256, *text] for text in texts]), torch.tensor([0, 1]))
    reward = LabelOfText("some-run", 1)
    reward.use(model)
    unlike, alike, empty = reward(["", "", ""], ["abab", "acac", ""])
    assert unlike < math.log(1 / 3) < math.log(2 / 3) < alike
    assert empty == pytest.approx(math.log(1 / 2))


@pytest.mark.slow
def test_two_batches_of_the_preset_of_style(workspace: Path) -> None:
    config = REPOSITORY / "configs/shakespeare/milton-rl.yaml"
    options = data_or_skip(config)
    length = ["--model.init_args.reward", "genai.models.autoregressive.rewards.Length"]  # the preset's own needs a trained run
    assert main(["fit", "-c", str(config), *QUICK, *options, *length]) == 0


def test_held_out_sums_are_in_no_other_split_and_a_third_is_wrong() -> None:
    data = Sums(num_sums=3000, max_operand=40)
    pairs, wrong = {}, {}
    for split in ("train", "val", "test"):
        part = data.split(split)
        lines = [data.tokenizer.text(part.tokens[span.start : span.stop]) for span in part.documents]
        sums = [(*map(int, line.split("=")[0].split("+")), int(line.split("=")[1])) for line in lines]
        pairs[split] = {frozenset((a, b)) for a, b, _ in sums}
        wrong[split] = sum(a + b != c for a, b, c in sums) / len(sums)
    assert not pairs["train"] & (pairs["val"] | pairs["test"])
    assert not pairs["val"] & pairs["test"]
    assert wrong["train"] == pytest.approx(1 / 3, abs=0.03)


def few(steps: int, seed: int = 0) -> tuple[Reinforce, Sums]:
    """A small model with random weights, and its data."""
    torch.manual_seed(seed)
    data = Sums(num_sums=200, batch_size=4, seed=0)
    model = Reinforce(
        data.vocab_size, data.context_length, Length(), prompt_tokens=6, new_tokens=5, group_size=4, network=SMALL
    )
    model.initialise_from({name: torch.randn_like(value) / 4 for name, value in model.network.state_dict().items()})
    return model, data


def test_a_prompt_does_not_hold_the_end_of_its_document() -> None:
    model, data = few(0)
    data.prepare_data()
    data.setup("fit")
    model.trainer = SimpleNamespace(datamodule=data)  # type: ignore[assignment]
    end, tokens = data.tokenizer.end, torch.zeros(2, 12, dtype=torch.long) + 3
    tokens[:, 0] = end
    assert model.prompts_of([tokens]).shape == (2, 7)
    for value in (end, -1):
        tokens[1, 6] = value
        with pytest.raises(UserError, match="shorter than 6 prompt_tokens"):
            model.prompts_of([tokens])


@pytest.mark.slow
def test_the_reward_rises_and_the_start_stays() -> None:
    model, data = few(0)
    before = {name: value.clone() for name, value in model.reference.state_dict().items()}
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_steps=60, accelerator="cpu", inference_mode=False, **quiet)
    first = trainer.validate(model, data, verbose=False)[0]
    assert first["val/reward"] == first["val/reference_reward"]
    assert first["val/kl"] == pytest.approx(0, abs=1e-6)
    trainer.fit(model, data)
    last = trainer.validate(model, data, verbose=False)[0]
    assert last["val/reward"] > last["val/reference_reward"] + 0.2
    assert last["val/reference_reward"] == first["val/reference_reward"]
    assert last["val/kl"] > 0.05
    assert all(torch.equal(value, before[name]) for name, value in model.reference.state_dict().items())


@pytest.mark.slow
def test_a_fit_with_a_reward_needs_a_run_and_resumes_exactly(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--tracker", "none", "--trainer.enable_progress_bar", "false", "--trainer.val_check_interval", "2"]
    quick += ["--data.init_args.num_sums", "200", "--data.init_args.batch_size", "4", "--trainer.limit_val_batches", "1"]
    assert main(["fit", "-c", RL, *quick]) == 2
    assert "--init_from" in capsys.readouterr().err
    assert not Path("runs").exists()
    assert main(["fit", "-c", GPT, *quick, "--trainer.max_steps", "2"]) == 0
    rl = ["fit", "-c", RL, *quick, "--init_from", "arithmetic-gpt", "--checkpoint_every_n_steps", "2"]
    assert main([*rl, "--trainer.max_steps", "4", "--experiment", "whole"]) == 0
    assert main([*rl, "--trainer.max_steps", "2", "--experiment", "parts"]) == 0
    assert main(["fit", "--resume", "parts", "--trainer.max_steps", "4"]) == 0
    whole, parts = (torch.load(find(name).path / "checkpoints/last.ckpt", weights_only=True) for name in ("whole", "parts"))
    assert all(torch.equal(value, parts["state_dict"][name]) for name, value in whole["state_dict"].items())
    assert main(["sample", "whole", "--prompt", "17+25=", "--tokens", "4"]) == 0
    assert main(["test", "arithmetic-gpt", "--tracker", "none", "--evaluation.num_samples", "2"]) == 0
    assert "bits per byte" in capsys.readouterr().out
