"""Speed of text models: training beside transformers' GPT-2 of the same size, sampling with a cache and without.

    pip install transformers
    python benchmarks/text.py [--threads 1] [--rounds 5] [--seconds 2]

Both networks have 4 blocks of width 128 and 4 heads, as configs/shakespeare/gpt.yaml, and get the same batches of 12 windows of
64 random tokens. A training step is the forward pass, the cross-entropy, the backward pass and the optimiser's step: AdamW of
torch for both; in a third row genai's step of the preset, with Muon and averaged weights. GPT-2 has its own defaults but for
dropout, which is 0 in both. Speeds are by processor time, the sum over threads, so that they hold on a busy machine; rounds
alternate, and the ratios are medians over rounds.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

from genai.models.autoregressive.autoregressive import Autoregressive
from genai.models.autoregressive.muon import Float32Muon
from genai.models.autoregressive.optimizers import optimizer_of
from genai.networks.transformer import Cache, Transformer

VOCAB, DIM, DEPTH, HEADS = 65, 128, 4, 4
BATCH, CONTEXT = 12, 64
NUM_SAMPLED = 512


def adamw(parameters: object) -> torch.optim.AdamW:
    """The optimiser of both libraries."""
    return torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0)  # type: ignore[arg-type]


def muon(parameters: object) -> Float32Muon:
    """The preset's optimiser of the matrices of the blocks."""
    return Float32Muon(parameters, lr=1e-2, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")  # type: ignore[arg-type]


def transformer(vocab_size: int, context_length: int) -> Transformer:
    """The preset's network."""
    return Transformer(vocab_size, context_length, dim=DIM, depth=DEPTH, num_heads=HEADS, positions="rotary")


def gpt2(context_length: int) -> GPT2LMHeadModel:
    """GPT-2 of the same size."""
    size = {
        "vocab_size": VOCAB,
        "n_positions": context_length,
        "n_embd": DIM,
        "n_layer": DEPTH,
        "n_head": HEADS,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    return GPT2LMHeadModel(GPT2Config(**size, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))


def training_steps() -> dict[str, Callable[[], None]]:
    """One training step of each row."""
    tokens = torch.randint(VOCAB, (BATCH, CONTEXT + 1))
    ours, theirs = transformer(VOCAB, CONTEXT).train(), gpt2(CONTEXT).train()
    preset = Autoregressive(VOCAB, CONTEXT, network=transformer, optimizer=adamw, matrix_optimizer=muon)
    logits: dict[str, tuple[nn.Module, Callable[[], Tensor], torch.optim.Optimizer]] = {
        "genai, AdamW": (ours, lambda: ours(tokens[:, :-1])[:, 1:], adamw(ours.parameters())),
        "genai, Muon and averaged weights": (
            preset.network,
            lambda: preset.network(tokens[:, :-1])[:, 1:],
            optimizer_of(preset.network, adamw, muon, None),
        ),
        "transformers, AdamW": (theirs, lambda: theirs(tokens[:, :-1]).logits, adamw(theirs.parameters())),
    }

    def make(name: str) -> Callable[[], None]:
        network, forward, optimizer = logits[name]
        print(f"{name}: {sum(p.numel() for p in network.parameters()):,} parameters")

        def step() -> None:
            optimizer.zero_grad()
            cross_entropy(forward().flatten(0, 1), tokens[:, 1:].flatten()).backward()
            optimizer.step()
            if network is preset.network:
                preset.averaged.update(preset.network, BATCH * CONTEXT, 10**6)

        return step

    return {name: make(name) for name in logits}


def samplers() -> dict[str, Callable[[], None]]:
    """Sample `NUM_SAMPLED` tokens of one text, by each row."""
    ours, theirs = transformer(VOCAB, NUM_SAMPLED).eval(), gpt2(NUM_SAMPLED).eval()

    def with_cache() -> None:
        token, cache = torch.zeros(1, 1, dtype=torch.long), Cache()
        for _ in range(NUM_SAMPLED - 1):
            token = ours(token, cache=cache)[:, -1].softmax(dim=-1).multinomial(1)

    def without_cache() -> None:
        tokens = torch.zeros(1, 1, dtype=torch.long)
        for _ in range(NUM_SAMPLED - 1):
            tokens = torch.cat([tokens, ours(tokens)[:, -1].softmax(dim=-1).multinomial(1)], dim=1)

    def by_transformers() -> None:
        start = torch.zeros(1, 1, dtype=torch.long)
        length = {"max_length": NUM_SAMPLED, "min_length": NUM_SAMPLED}
        theirs.generate(start, attention_mask=torch.ones_like(start), do_sample=True, top_k=0, pad_token_id=0, **length)

    return {
        "genai, with the cache": with_cache,
        "genai, without": without_cache,
        "transformers' generate, with its cache": by_transformers,
    }


def measured(rows: dict[str, Callable[[], None]], units: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Units per second of processor time of each row in each round; a round repeats a row until `seconds` have passed."""
    speeds: dict[str, list[float]] = {name: [] for name in rows}
    for name in rows:
        rows[name]()
    for _ in range(rounds):
        for name, once in rows.items():
            began, times = time.process_time(), 0
            while times == 0 or time.process_time() - began < seconds:
                once()
                times += 1
            speeds[name].append(times * units / (time.process_time() - began))
    return speeds


def show(speeds: dict[str, list[float]], reference: str) -> None:
    """Print each row's tokens/s and its ratio to the reference: the median over rounds, the least and the most."""
    for name, values in speeds.items():
        ratios = sorted(value / other for value, other in zip(values, speeds[reference], strict=True))
        spread = "" if name == reference else f"   {median(ratios):.2f} times ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"  {name:<40}{median(values):>8,.0f} tokens/s{spread}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of text models beside transformers' GPT-2.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="a round of sampling is one text of each row")
    parser.add_argument("--seconds", type=float, default=2.0, help="of processor time of a row in a round")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    steps = training_steps()
    print(f"training, {BATCH} windows of {CONTEXT} tokens, threads: {options.threads}")
    show(measured(steps, BATCH * CONTEXT, options.rounds, options.seconds), "transformers, AdamW")
    print(f"sampling {NUM_SAMPLED} tokens of one text")
    with torch.no_grad():
        show(measured(samplers(), NUM_SAMPLED, options.rounds, 0.0), "genai, without")


if __name__ == "__main__":
    main()
