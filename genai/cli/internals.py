"""`genai explain` inside of a model: words of a caption, attention heads, the layers that a direction changes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from scipy.stats import wilcoxon
from torch import Tensor
from torch.nn.functional import interpolate

from genai.cli.options.labels import LabelOptions, sample_condition
from genai.cli.options.run import LoadedRun
from genai.control.direction_files import load_directions
from genai.control.directions import Direction, random_directions
from genai.control.explanations import overlaid, random_share, top_share
from genai.control.head_erasure import erase_heads
from genai.control.layer_changes import layer_changes, restored
from genai.control.predictors import load_predictor
from genai.control.spaces import BATCH_SIZE, edit_space
from genai.control.word_maps import attends_to_words, cross_attention, intersection, shares_of, word_effect
from genai.data.text import TextDataModule, document_windows
from genai.errors import UserError
from genai.images import annotated, to_float, to_uint8
from genai.metrics.reference import subset_indices
from genai.metrics.tables import WrappedTable
from genai.models.seeds import image_seeds
from genai.networks.transformer import Transformer
from genai.runs.data import data_of
from genai.runs.export import DIRECTIONS

SHARE = 0.2  # of what the tests erase
ROWS = 3  # images of each word in the picture
NUM_WORDS = 5  # without --target
FEWEST = 2  # images with a word
NUM_RANDOM = 5  # random directions
ALPHA = 0.01
PLACES = 96  # pixels of a picture of a layer


class Explained(NamedTuple):
    """A picture and the lines to print."""

    picture: Image.Image
    lines: list[str]


def verdict_lines(pointed: Tensor, random: Tensor, what: str, where: str) -> list[str]:
    """The result of a test of faithfulness, N changes each (Wilcoxon's signed-rank test)."""
    if len(pointed) < 2 or bool((pointed == random).all()):
        return [f"the test needs more images that differ: there are {len(pointed)}, add --num"]
    p = float(wilcoxon(pointed.double().numpy(), random.double().numpy(), alternative="greater").pvalue)
    verdict = f"the explanation is {'faithful' if p < ALPHA else 'not shown to be faithful'} (p = {p:.2g})"
    too_few = 0.5 ** len(pointed) >= ALPHA  # the smallest p-value of so many tests
    return [
        f"change of {what}: {float(pointed.mean()):.3g} in {where}",
        f"{'':<{len(what) + 10}} {float(random.mean()):.3g} in random ones ({len(pointed)} tests)",
        f"{len(pointed)} tests are too few for p < {ALPHA:g} (p = {p:.2g}): add --num" if too_few else verdict,
    ]


# -- words of a caption --------------------------------------------------------------------------------------------------


def explain_words(source: LoadedRun, target: str | None, num: int) -> Explained:
    """Where words act: maps of cross-attention, and the change of the output if the word is left out.

    Data that render their images say which pixels a word draws; the table then has the intersection of both maps with them,
    beside random pixels. The test compares the change of the output, if a word is left out, at the positions with the largest
    attention to it and at random ones.

    Raises:
        UserError: the network has no cross-attention, or no caption has the target.
    """
    if not attends_to_words(source.model):
        raise UserError(
            f"the network of {source.run.path} has no attention to words: `genai explain` cannot show where they act"
        )
    vocabulary = source.run.record()["class_names"]
    if target is not None and target not in vocabulary:
        raise UserError(f"no caption has the word {target!r}: choose from {', '.join(sorted(filter(str.isalpha, vocabulary)))}")
    split = source.test_split()
    rows = subset_indices(len(split), num)
    pixels, words = split.batch(rows)
    images, data = to_float(pixels), source.data()
    render_masks = getattr(data, "word_masks", None)
    masks = (
        {} if render_masks is None else {name: torch.from_numpy(m) for name, m in render_masks("test", rows.tolist()).items()}
    )
    shares = shares_of(words, vocabulary)
    frequent = sorted((name for name in shares if shares[name] <= 0.5), key=lambda name: -shares[name])
    chosen = [target] if target else [*masks, *(name for name in frequent if name not in masks)][:NUM_WORDS]
    attention = cross_attention(source.model, images, words)  # (N, L, H, W)
    table, tiles, labels, pointed, random = [], [], [], [], []
    for name in chosen:
        word = list(vocabulary).index(name)
        has = (words == word).any(dim=1)
        if int(has.sum()) < FEWEST:
            table.append([name, str(int(has.sum())), *["-"] * 4])
            continue
        maps = (attention * (words == word)[:, :, None, None]).sum(dim=1)[has]
        effect = word_effect(source.model, images[has], words[has], word)
        pointed.append(top_share(effect, maps, SHARE))
        random.append(random_share(effect, SHARE))
        cells = ["-"] * 4
        if name in masks:
            truth = masks[name][has]
            found = [intersection(values, truth).mean() for values in (maps, effect, torch.rand_like(maps))]
            cells = [f"{100 * float(value):.0f}" for value in (*found, truth.float().mean())]
        table.append([name, str(int(has.sum())), *cells])
        columns = [images[has], overlaid(images[has], maps), overlaid(images[has], effect)]
        if masks:
            columns.append(overlaid(images[has], masks[name][has].float() if name in masks else torch.zeros_like(maps)))
        tiles.append(torch.stack(columns, dim=1)[:ROWS].flatten(0, 1))
        labels += [name] * min(ROWS, int(has.sum()))
    if not tiles:
        raise UserError(f"fewer than {FEWEST} of {num} captions have these words: add --num, or choose another --target")
    heads = ["image", "attention", "word left out", *(["renderer"] if masks else [])]
    titles = ["word", "images", "attention", "left out", "random", "area"]
    overlap = "Intersection over union with the pixels that the renderer draws for the word, in %; random: as many pixels"
    caption = overlap if masks else ""
    Console().print(WrappedTable(titles if masks else titles[:2], [r if masks else r[:2] for r in table], caption=caption))
    where = f"the {100 * SHARE:.0f} % of pixels with most attention"
    lines = verdict_lines(torch.cat(pointed), torch.cat(random), "the output", where)
    return Explained(annotated(to_uint8(torch.cat(tiles)), len(heads), labels, heads), lines)


# -- attention heads of a transformer of text ----------------------------------------------------------------------------


def explain_heads(source: LoadedRun, num: int) -> Explained:
    """The rise of the loss if each head is erased, and a test on other windows of the text."""
    network = source.model.averaged_network
    if not isinstance(network, Transformer):
        raise UserError(f"{source.run.path} has no attention heads: `genai tokens` shows what it predicts")
    data = source.data()
    assert isinstance(data, TextDataModule)
    windows = validation_windows(data, source.model.context_length, num)
    found = erase_heads(network, windows.to(source.model.device), SHARE)
    depth, heads = found.single.shape
    rows = [[f"block {block + 1}", *(f"{value:+.3f}" for value in found.single[block])] for block in range(depth)]
    caption = "Rise of the loss if one head is erased, nats per token"
    Console().print(WrappedTable(["", *(f"head {head + 1}" for head in range(heads))], rows, caption=caption))
    scaled = found.single.clamp(min=0) / found.single.max().clamp(min=1e-9)
    picture = annotated(
        to_uint8(1 - 2 * scaled.flatten()[:, None, None, None].expand(-1, 1, 48, 48)),
        heads,
        [f"block {block + 1}" for block in range(depth)],
        [f"head {head + 1}" for head in range(heads)],
        [f"{value:+.3f}" for value in found.single.flatten()],
    )
    where = f"the {found.num} heads with the largest rise"
    return Explained(picture, verdict_lines(found.important, found.random, "the loss of other windows", where))


def validation_windows(data: TextDataModule, length: int, num: int) -> Tensor:
    """At most `num` windows spread evenly over the validation text: (N, L) int64; documents as in training, -1 after the end.

    Raises:
        UserError: the text has fewer than four windows.
    """
    documents = document_windows(data, "val") if data.by_document else None
    tokens = torch.from_numpy(data.split("val").tokens.astype(np.int64))
    count = len(tokens) // length if documents is None else len(documents)
    if count < 4:
        raise UserError(f"{data.name} has {len(tokens)} tokens for validation, fewer than 4 windows of {length}")
    chosen = torch.linspace(0, count - 1, min(num, count)).long()
    if documents is not None:
        return documents.__getitems__(chosen.tolist()).tokens
    return tokens[: count * length].view(count, length)[chosen]


# -- layers that a direction changes -------------------------------------------------------------------------------------


def explain_direction(source: LoadedRun, name: str, file: str | None, num: int, predictor_name: str | None) -> Explained:
    """How much a step along a direction changes each layer, beside random steps of the same length, and where; and the test.

    The test restores the unedited output of a layer at the positions that the edit changes most: it should undo more of the
    edit, read by a predictor, than at random positions.
    """
    space = edit_space(source.model)
    found = load_directions(Path(file or source.run.path / DIRECTIONS), source.model.images_seen)
    direction: Direction = found.named(name)
    predictor = load_predictor(predictor_name, data_of(source.run, source.trust), source.trust)
    attribute = predictor.index(direction.attribute)
    labels = sample_condition(LabelOptions(), num, source)
    points = space.points(image_seeds(0, num), labels)
    scores = predictor.scores(to_uint8(space.decode(points)))[:, attribute]
    lacking = (scores <= 0).nonzero()[:BATCH_SIZE, 0]
    points, scores = points[lacking], scores[lacking]
    if len(scores) < FEWEST:
        raise UserError(f"fewer than {FEWEST} of {num} samples lack {direction.attribute}: add --num")
    move = direction.unit * direction.vector
    edited = predictor.scores(to_uint8(space.decode(points.moved(move))))[:, attribute]
    sign = 1 if direction.kind == "supervised" or edited.mean() >= scores.mean() else -1  # others have no sense of their own
    if sign < 0:
        move = -move
        edited = predictor.scores(to_uint8(space.decode(points.moved(move))))[:, attribute]
    randoms = direction.unit * random_directions(NUM_RANDOM, len(move), seed=1)
    changes = layer_changes(space, points, move, randoms)
    rows = [[short(c.name), "x".join(map(str, c.shape)), f"{c.change:.3f}", f"{c.random:.3f}"] for c in changes]
    caption = f"Relative change of the output by a step of {sign} along {name}, {len(scores)} samples"
    Console().print(WrappedTable(["layer", "output", "change", "random"], rows, caption=caption))
    maps = [change for change in changes if change.places is not None and change.places.numel() > 4]
    if not maps:
        raise UserError(f"the decoder of {source.run.path} has no layers of images, so there are no places to show")
    layer = maps[len(maps) // 2]
    images = restored(space, points, move, layer.name, SHARE)
    undone = [edited - predictor.scores(to_uint8(part))[:, attribute] for part in images]
    tiles = torch.stack([interpolate(c.places[None, None], (PLACES, PLACES))[0] for c in maps if c.places is not None])
    columns = min(6, len(tiles))
    blank = torch.zeros(-len(tiles) % columns, *tiles.shape[1:])
    captions = [short(change.name)[-24:] for change in maps] + [""] * len(blank)
    picture = annotated(to_uint8(2 * torch.cat([tiles, blank]) - 1), columns, captions=captions)
    what = f"the score of {direction.attribute}"
    where = f"{100 * SHARE:.0f} % of {short(layer.name)}"
    return Explained(picture, verdict_lines(undone[0], undone[1], what, where))


def short(name: str) -> str:
    """A layer's name without that of the averaged network."""
    return name.removeprefix("averaged.").removeprefix("network.")
