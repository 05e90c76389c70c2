"""genai tokens: show what a text model predicts after each token of a prompt

Group: inspect
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.output import OutputOptions, checked
from genai.cli.options.run import LoadedRun, RunOptions
from genai.cli.options.text import TEXT
from genai.errors import UserError
from genai.files import open_atomically
from genai.metrics.tables import WrappedTable
from genai.networks.transformer import Transformer, attention_maps
from genai.runs.text import prompt_tokens, tokenizer_of
from genai.terminal import visible

NUM_LIKELY = 5  # tokens of each row of the table
NUM_ROWS = 24  # tokens of the picture


def parser() -> VerbParser:
    """The options of `genai tokens`."""
    verb = VerbParser(
        "tokens",
        "RUN --prompt TEXT [options]",
        "Show the distribution of the next token after each token of a prompt, as a table and a picture; of a transformer also "
        "the attention of each head, in a second picture.",
    )
    RunOptions.add_to(verb)
    verb.add_argument("--prompt", required=True, metavar="TEXT", help="the text to predict")
    verb.add_argument("--num", type=positive, default=NUM_LIKELY, metavar="N", help=f"likely tokens (default: {NUM_LIKELY})")
    OutputOptions.add_to(verb, "the PNG to write; the attention is written beside it")
    return verb


def run(arguments: list[str]) -> None:
    """Print the table and write the pictures."""
    options = parser().parse(arguments)
    source = RunOptions.from_namespace(options).load(TEXT)
    output = OutputOptions.from_namespace(options)
    path = output.png(source.run, "tokens")
    attention_path = checked(path.with_stem(f"{path.stem}-attention"), output.force)
    tokenizer = tokenizer_of(source.run)
    tokens = prompt_tokens(options.prompt, tokenizer)
    limit = source.model.context_length
    if tokens is None or len(tokens) > limit:
        raise UserError(
            f"the prompt has {0 if tokens is None else len(tokens)} tokens: use 1 to {limit}, the length of the context"
        )
    with torch.no_grad():
        logits = source.model.averaged_network(tokens[None].to(source.model.device))[0].double().cpu()
    p = logits.softmax(dim=-1)  # (1 + L, V)
    names = tokenizer.names()
    shown = ["<start>", *(names[token] for token in tokens.tolist())]
    Console().print(table(p, tokens, names, shown, options.num))
    write(draw_distributions(p, names, shown), path)
    draw_attention(source, tokens, shown, attention_path)


def table(p: Tensor, tokens: Tensor, names: list[str], shown: list[str], num: int) -> WrappedTable:
    """After each token: the bits of the token that follows, the entropy and the most likely tokens."""
    rows = []
    for i, row in enumerate(p):
        likely = row.topk(min(num, len(names)))
        cells = [
            f"{quoted(names[token])} {100 * float(value):.0f}" for value, token in zip(*map(Tensor.tolist, likely), strict=True)
        ]
        bits = f"{-float(row[tokens[i]].log2()):.2f}" if i < len(tokens) else ""
        entropy = float(torch.special.entr(row).sum() / np.log(2))
        rows.append([quoted(shown[i]), bits, f"{entropy:.2f}", "  ".join(cells)])
    headings = ["after", "bits of next", "entropy, bits", "most likely next tokens, %"]
    return WrappedTable(headings, rows, title="Next-token distributions")


def draw_distributions(p: Tensor, names: list[str], shown: list[str]) -> Figure:
    """A heat map: columns are the tokens of the prompt, rows the tokens that are most likely anywhere."""
    chosen = p.max(dim=0).values.topk(min(NUM_ROWS, p.shape[1])).indices
    figure = Figure(figsize=(max(4, 0.3 * len(shown) + 2), 0.25 * len(chosen) + 1), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(p[:, chosen].T, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(shown)), [in_figure(name) for name in shown], rotation=90, fontfamily="monospace")
    axes.set_yticks(range(len(chosen)), [in_figure(names[token]) for token in chosen.tolist()], fontfamily="monospace")
    axes.set(xlabel="after this token", ylabel="next token")
    figure.colorbar(image, label="probability")
    return figure


def draw_attention(source: LoadedRun, tokens: Tensor, shown: list[str], path: Path) -> None:
    """Write the attention of each block (rows) and head (columns) of a transformer; other networks have none."""
    network = source.model.averaged_network
    if not isinstance(network, Transformer):
        return
    maps = attention_maps(network, tokens[None].to(source.model.device))[:, 0].cpu()  # (depth, heads, 1 + L, 1 + L)
    depth, heads = maps.shape[:2]
    figure = Figure(figsize=(2.4 * heads, 2.4 * depth), layout="constrained")
    for axes, weights, i in zip(
        figure.subplots(depth, heads, squeeze=False).flat, maps.flatten(0, 1), range(depth * heads), strict=True
    ):
        axes.imshow(weights, cmap="viridis", vmin=0)
        axes.set_title(f"block {i // heads + 1}, head {i % heads + 1}", fontsize=8)
        few = len(shown) <= NUM_ROWS
        axes.set_xticks(
            range(len(shown)) if few else [], [in_figure(name) for name in shown] if few else [], rotation=90, fontsize=5
        )
        axes.set_yticks(range(len(shown)) if few else [], [in_figure(name) for name in shown] if few else [], fontsize=5)
    write(figure, path)


def write(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all, and print its path."""
    with open_atomically(path) as file:
        figure.savefig(file, dpi=120, format="png")
    print(f"wrote {path}")


def quoted(name: str) -> str:
    """A token's name as it can be printed, in which a space can be seen."""
    return visible(name).replace(" ", "␣")


def in_figure(name: str) -> str:
    """`quoted` for matplotlib, which reads mathematics between dollar signs."""
    return quoted(name).replace("$", r"\$")
