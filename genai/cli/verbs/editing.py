"""genai editing: measure the edits along saved directions

Group: inspect
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from torch import Tensor

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.labels import LabelOptions, condition_or_labels, label_kind
from genai.cli.options.output import OutputOptions
from genai.cli.options.predictor import add_predictor_option
from genai.cli.options.run import DECODE, SAMPLE_IMAGES, LoadedRun, RunOptions, add_seed_option
from genai.control.condition_edits import with_word, without_word
from genai.control.direction_files import check_space, load_directions
from genai.control.edit_scores import (
    Before,
    Edited,
    EditScore,
    Measured,
    as_random,
    before_edits,
    edited_fid,
    flipped_labels,
    measure_directions,
    score_edits,
)
from genai.control.predictors import PIXELS, AttributePredictor, accuracy, exclusive_attributes, load_predictor
from genai.control.spaces import edit_space
from genai.errors import UserError
from genai.escaping import in_chart
from genai.files import write_csv
from genai.images import save_png, to_uint8
from genai.metrics.tables import WrappedTable
from genai.models.seeds import image_seeds
from genai.runs import merge_json
from genai.runs.export import DIRECTIONS

RANDOM_SHARE = 4  # random directions are measured with one of so many samples: most of them take all steps
FIRST_SEED = 1_000_000  # of the samples, so that they are not those that the directions were found with


def parser() -> VerbParser:
    """The options of `genai editing`."""
    verb = VerbParser(
        "editing",
        "RUN [options]",
        "Measure edits along the supervised directions of `genai directions`, with a predictor that did not find them: each "
        "sample is moved until the attribute changes. The table has the share of samples where it does, and the change of "
        "other attributes, beside a random direction and beside a conditional model; the picture has the change of each "
        "attribute by each edit.",
    )
    RunOptions.add_to(verb)
    verb.add_argument("--num", type=positive, default=200, metavar="N", help="number of samples (default: 200)")
    verb.add_argument("--attributes", metavar="A,B", help="directions to measure; default: all supervised ones")
    verb.add_argument("--directions", metavar="FILE", help=f"saved directions; default: RUN/{DIRECTIONS}")
    add_predictor_option(verb, "reads the attributes, another one than found the directions", PIXELS)
    text = "conditional model of the same data, which samples with and without each attribute from the same noise"
    verb.add_argument("--conditional", metavar="RUN", help=text)
    add_seed_option(verb, "seed of the samples (default: 0)")
    LabelOptions.add_to(verb, default="labels of validation images", text=False)
    OutputOptions.add_to(verb, "the CSV of the changes; the picture is written beside it as PNG")
    return verb


def run(arguments: list[str]) -> None:
    """Print the table, write both files, and the scores to RUN/metrics.json."""
    options = parser().parse(arguments)
    if options.num < 2:
        raise UserError("--num 1 is too small to measure edits: use 2 samples or more")
    run = RunOptions.from_namespace(options)
    table, picture = OutputOptions.from_namespace(options).table_and_picture(run.find(), "editing")
    source = run.load(DECODE)
    found = load_directions(Path(options.directions or source.run.path / DIRECTIONS), source.model.images_seen)
    names = (
        list(dict.fromkeys(options.attributes.split(",")))
        if options.attributes
        else [d.name for d in found.directions if d.kind == "supervised"]
    )
    if not names:
        raise UserError("there are no supervised directions to measure: find some with `genai directions`, and a larger --num")
    directions = [found.named(name) for name in names]
    other = load_conditional(replace(run, run=options.conditional, checkpoint="best"), source) if options.conditional else None
    data = source.data("fit")
    predictor = load_predictor(options.predictor or PIXELS, data, source.trust)
    if predictor.sha256 == found.predictor_sha256:
        raise UserError(f"`{predictor.name}` has found these directions, so it cannot measure them: name another --predictor")
    for name in names:
        predictor.index(name)
    seeds = image_seeds(options.seed, FIRST_SEED + options.num)[FIRST_SEED:]
    space = edit_space(source.model)
    real = data.split("val")
    points = space.points(seeds, condition_or_labels(LabelOptions.from_namespace(options), options.num, source, real))
    check_space(found, space, points)
    before = before_edits(to_uint8(space.decode(points)), predictor)
    exclusive = exclusive_attributes(
        predictor.attributes, predictor.num_exclusive, source.run.record().get("label_exclusive", ())
    )
    few = max(2, options.num // RANDOM_SHARE)
    results = {
        "edits": measure_directions(space, points, before, directions, predictor),
        "random": measure_directions(space, points[:few], Before(*(x[:few] for x in before)), as_random(directions), predictor),
    }
    if other is not None:
        results["conditional"] = measure_conditional(other, seeds, names, predictor)
    reference = predictor.embed(real.batch(range(min(len(real), 5000))).images)
    sets = {"samples": before.images} | {name: result.images for name, result in results.items()}
    num = min(filter(None, map(len, sets.values())))
    fids = {name: edited_fid(images, reference, num, predictor) for name, images in sets.items() if len(images)}
    floor = accuracy(predictor, real, data.class_names)
    print_scores(results, predictor, exclusive)
    agrees = "" if floor is None else f", which agrees with {floor:.1%} of the labels of real images"
    print(f"{options.num} samples; predictor `{predictor.name}`{agrees}")
    print(f"FID on its features, {num} images each: {', '.join(f'{name} {value:.3g}' for name, value in fids.items())}")
    rows = [(name, *(f"{share:.4f}" for share in score.changed)) for name, score in results["edits"].scores.items()]
    write_csv(table, [("edit", *predictor.attributes), *rows])
    matrix = torch.stack([score.changed for score in results["edits"].scores.values()])
    metadata = {"Run": source.run.name, "Verb": "editing", "Predictor": predictor.name}
    save_png(plotted(matrix, names, predictor.attributes), picture, metadata)
    print(f"wrote {table} and {picture}")
    if not source.run.is_exported:
        scores = {kind: {name: as_json(score) for name, score in result.scores.items()} for kind, result in results.items()}
        about = {"num": options.num, "seed": options.seed, "predictor": predictor.name, "sha256": predictor.sha256}
        merge_json(source.run.path / "metrics.json", {"editing": {**about, "fid": fids, "scores": scores}})


def load_conditional(run: RunOptions, source: LoadedRun) -> LoadedRun:
    """The run of --conditional; UserError unless its model is conditional and generates images of the same shape."""
    other = run.load(SAMPLE_IMAGES)
    if not other.model.conditional:
        raise UserError(f"{other.run.path} is unconditional: name another model with --conditional")
    shape, wanted = ("x".join(map(str, one.model.image_shape)) for one in (other, source))
    if shape != wanted:
        raise UserError(f"{other.run.path} generates images of {shape}, not of {wanted}: name a model of the same data")
    return other


def measure_conditional(
    source: LoadedRun, seeds: Sequence[int], names: Sequence[str], predictor: AttributePredictor
) -> Measured:
    """Scores of a conditional model that samples the same noise with labels of its data, and with one of them changed.

    The labels are those of validation images. The word of the attribute is added to a caption or left out.
    """
    split, record = source.data("fit").split("val"), source.run.record()
    labels = torch.from_numpy(split.labels[np.arange(len(seeds)) % len(split)].copy())
    own = record["class_names"]
    num_classes = len(own) if label_kind(source) == "class" else 0
    exclusive = exclusive_attributes(own, num_classes, record.get("label_exclusive", ()))
    before: Before = before_edits(to_uint8(source.model.sample(seeds, labels).cpu()), predictor)
    scores, images = {}, [before.images[:0]]
    for name in (name for name in names if name in own):
        k = predictor.index(name)
        if label_kind(source) == "text":
            word = own.index(name)
            has = (labels == word).any(dim=1)[:, None]
            flipped = torch.where(has, without_word(labels, word), with_word(labels, word, own))
        else:
            flipped = flipped_labels(labels, own.index(name), exclusive)
        edited = to_uint8(source.model.sample(seeds, flipped).cpu())
        after = Edited(edited, predictor.scores(edited), torch.full((len(seeds),), float("nan")))
        scores[name] = score_edits(before, after, predictor, k)
        images.append(edited)
    return Measured(scores, torch.cat(images))


# -- output --------------------------------------------------------------------------------------------------------------


def print_scores(results: Mapping[str, Measured], predictor: AttributePredictor, exclusive: Tensor) -> None:
    """A row for each attribute, and the means; the median step and the monotonicity are those of the edits."""
    columns, rows, means = ["edit"], {name: [name] for name in results["edits"].scores}, ["mean"]
    for kind, result in results.items():
        title = "" if kind == "edits" else f"{kind}: "
        columns += [f"{title}success", f"{title}largest other change", f"{title}distance"]
        others = {n: s.worst(exclusive[predictor.index(n)], predictor.attributes) for n, s in result.scores.items()}
        for name, cells in rows.items():
            score = result.scores.get(name)
            if score is None:
                cells += ["-"] * 3
            else:
                cells += [f"{score.success:.1%}", f"{others[name][0]:.1%} {others[name][1]}", f"{score.distance:.2f}"]
        if scores := list(result.scores.values()):
            worst = fmean(share for share, _ in others.values())
            means += [f"{fmean(s.success for s in scores):.1%}", f"{worst:.1%}", f"{fmean(s.distance for s in scores):.2f}"]
        else:
            means += ["-"] * 3
    edits = list(results["edits"].scores.values())
    steps = [[f"{score.step:.2f}", f"{score.monotone:.2f}"] for score in edits]
    steps.append(["", f"{fmean(score.monotone for score in edits):.2f}"])
    table = [[*cells[:2], *step, *cells[2:]] for cells, step in zip([*rows.values(), means], steps, strict=True)]
    Console().print(WrappedTable([*columns[:2], "step", "monotone", *columns[2:]], table))


def as_json(score: EditScore) -> dict[str, Any]:
    """A score for metrics.json; NaN becomes null."""
    step = None if np.isnan(score.step) else score.step
    monotone = None if np.isnan(score.monotone) else score.monotone
    changes = {"distance": score.distance, "changed": score.changed.tolist()}
    return {"success": score.success, "step": step, "monotone": monotone, **changes}


def plotted(matrix: Tensor, rows: Sequence[str], columns: Sequence[str]) -> Image.Image:
    """The changes (edits, attributes) in percent, as a picture: the diagonal is what the edits should change."""
    figure = Figure(figsize=(2.5 + 0.5 * len(columns), 2.2 + 0.42 * len(rows)), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(matrix.numpy(), vmin=0, vmax=1, cmap="Blues", aspect="auto")
    axes.set_xticks(range(len(columns)), map(in_chart, columns), rotation=45, ha="right")
    axes.set_yticks(range(len(rows)), map(in_chart, rows))
    for (i, j), value in np.ndenumerate(matrix.numpy()):
        axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color="white" if value > 0.5 else "black", fontsize=8)
    axes.set_title("images whose attribute changes, %")
    axes.set_ylabel("edit")
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
