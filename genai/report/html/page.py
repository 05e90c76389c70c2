"""From runs to one HTML file that loads nothing from outside: layout by Jinja, charts by Bokeh, both inside the file."""

import json
import re
import secrets
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from bokeh.embed import components
from bokeh.model import Model
from bokeh.plotting import figure
from bokeh.resources import Resources
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from genai import __version__
from genai.files import write_atomically
from genai.images import grid
from genai.metrics.registry import Metric, all_metrics, text_metrics
from genai.report.comparison import protocol_key
from genai.report.html import charts
from genai.report.html.content import NUM_TOKENS, Nearest, RunContent, differing
from genai.report.html.pictures import data_uri, read_grid, spaced

MAX_FRAMES = 50  # of the sliders of all runs together
MAX_FRAMES_SIZE = 5_000_000  # characters of these; a report of five runs has less than 8 MB
MAX_LOSSLESS = 32  # pixels of an image that is stored without loss
SHOWN_AGAINST_TIME = ("fid", "bits_per_byte")  # of images, of text
UNPLOTTED = re.compile(r"_floor$|_std$|/share_|^test/")  # columns of metrics.csv that are no curve of their own


def write_report(runs: Sequence[RunContent], neighbours: dict[str, Nearest | str], path: Path, seed: int) -> int:
    """Write the report; returns its size in bytes.

    Args:
        runs: what to report, in order; their names differ. All are models of images, or all of text.
        neighbours: of each run of images by name, or one line that says why there are none.
        path: of the file.
        seed: of the samples.
    """
    is_text = bool(runs[0].texts)
    figures = make_charts(runs, "tokens" if is_text else "images")
    script, divisions = components(dict[str, Model](figures)) if figures else ("", {})
    bokeh = Resources(mode="inline", components=["bokeh"]).render()
    nonce = secrets.token_urlsafe(16)  # browsers run the scripts that have it, and none that a name of a run might bring
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    html = environment.get_template("page.html.jinja").render(
        title=" and ".join(run.name for run in runs) if len(runs) < 3 else f"{len(runs)} runs",
        version=__version__,
        seed=seed,
        runs=runs,
        is_text=is_text,
        facts=[facts(run) for run in runs],
        samples=[data_uri(grid(run.images), run.images.shape[-1] <= MAX_LOSSLESS) for run in runs if len(run.images)],
        frames=all_frames(runs),
        tables=score_tables(runs),
        neighbours=[panel(neighbours[run.name]) for run in runs if run.name in neighbours],
        differing=differing(runs) if len(runs) > 1 else {},
        has_curves=any(name.startswith("curve-") for name in figures),
        charts={name: Markup(division) for name, division in divisions.items()},
        script=Markup(script.replace("<script", f'<script nonce="{nonce}"', 1)),
        nonce=nonce,
        bokeh=Markup(bokeh.replace("<script>", f'<script nonce="{nonce}">')),
    )
    write_atomically(path, html)
    return len(html.encode())


def known_metrics() -> list[Metric]:
    """Those of images and of text."""
    return [*all_metrics(), *text_metrics()]


def make_charts(runs: Sequence[RunContent], unit: str) -> dict[str, figure]:
    """The charts by the place where the layout has them: `curve-...`, `classes`, `training`, `sampling`.

    Args:
        runs: what to report.
        unit: what the runs count: `images` or `tokens`.
    """
    metrics = {f"{split}/{metric.name}": metric for metric in known_metrics() for split in ("val", "test")}
    columns = dict.fromkeys(column for run in runs for column, points in run.curves.items() if len(points) > 1)
    columns = {column: None for column in columns if not UNPLOTTED.search(column)}
    ordered = sorted(columns, key=lambda column: (column not in metrics, not column.startswith("val/")))
    figures = {f"curve-{column}": charts.curve(column, runs, metrics.get(column), unit) for column in ordered}
    shares = charts.class_shares(runs)
    figures |= {"classes": shares} if shares else {}
    measured = {name for run in runs if run.evaluation for name in run.evaluation["scores"]}
    metric = next((metric for metric in known_metrics() if metric.name in measured.intersection(SHOWN_AGAINST_TIME)), None)
    if metric is None:
        return figures
    scored = [run for run in runs if run.evaluation and metric.name in run.evaluation["scores"]]
    alike = [run for run in scored if protocol_key(run.evaluation) == protocol_key(scored[0].evaluation)]
    if len(alike) > 1:  # one point shows nothing
        milliseconds = [1000 * run.sampling_seconds for run in alike]
        figures["sampling"] = charts.against(metric, alike, milliseconds, f"sampling time, ms per {sample_unit(alike[0])}")
    timed = [run for run in alike if run.seconds]
    if len(timed) > 1:
        minutes = [(run.seconds or 0) / 60 for run in timed]
        figures["training"] = charts.against(metric, timed, minutes, "training time, minutes")
    return figures


def sample_unit(run: RunContent) -> str:
    """What a sample is."""
    return f"text of {NUM_TOKENS} tokens" if run.texts else "image"


def score_tables(runs: Sequence[RunContent]) -> list[dict[str, Any]]:
    """A table for each protocol: its line, its runs, and rows of metric, score of each run, floor."""
    tables = []
    scored = sorted((run for run in runs if run.evaluation), key=lambda run: protocol_key(run.evaluation))
    groups = [(key, list(group)) for key, group in groupby(scored, key=lambda run: protocol_key(run.evaluation))]
    lines = [line for (line, _), _ in groups]
    for (line, fingerprint), own in groups:
        content = f"; content of the data {fingerprint}" if lines.count(line) > 1 else ""
        measured = [metric for metric in known_metrics() if any(metric.name in run.evaluation["scores"] for run in own)]
        rows = [score_row(metric, own) for metric in measured]
        tables.append({"protocol": line + content, "runs": [run.name for run in own], "rows": rows})
    return tables


def score_row(metric: Metric, runs: Sequence[RunContent]) -> list[str]:
    """Metric, score of each run, floor. Floors of text are measured with the model: where they differ, all are named."""
    texts = [metric.text(run.evaluation["floor"], with_std=True) for run in runs]
    floors = [text for text in texts if text]
    scores = [metric.text(run.evaluation["scores"], with_std=True) for run in runs]
    return [metric.heading, *scores, floors[0] if len(set(floors)) == 1 else ", ".join(floors)]


def facts(run: RunContent) -> dict[str, str]:
    """What a reader wants to know first about a run."""
    of_scores = run.evaluation.get("images_seen", run.images_seen)
    other = "" if of_scores == run.images_seen else f" (samples); {of_scores:,} (scores, of another checkpoint)"
    found = {
        "model": f"{run.record['model']} on {run.record['data']}",
        f"{'tokens' if run.texts else 'images'} seen": f"{run.images_seen:,}{other}" if run.images_seen else "",
        "parameters": ", ".join(f"{name} {size:,}" for name, size in run.evaluation.get("parameters", {}).items()),
        "seed": str(run.record.get("seed", "")),
        "training time": f"{run.seconds / 60:.1f} minutes" if run.seconds else "",
        "sampling time": f"{1000 * run.sampling_seconds:.2f} ms per {sample_unit(run)}, on the machine that wrote this page",
        **run.cost,
        "started": run.record.get("started", "").replace("T", " ").removesuffix("+0000"),
        "command": run.record.get("command", ""),
        "run": run.run.name,
    }
    return {name: text for name, text in found.items() if text}


def all_frames(runs: Sequence[RunContent]) -> list[str]:
    """`frames` of each run: together at most MAX_FRAMES, and fewer where they would be larger than MAX_FRAMES_SIZE."""
    num = max(2, MAX_FRAMES // len(runs))
    found = [frames(run, num) for run in runs]
    while num > 2 and sum(map(len, found)) > MAX_FRAMES_SIZE:
        num = max(2, num // 2)
        found = [frames(run, num) for run in runs]
    return found


def frames(run: RunContent, num: int) -> str:
    """The slider's pictures as JSON: [[epoch, data URI], ...]; an empty list for a run without grids."""
    chosen = spaced(dict(run.frames), num)
    pictures = [[epoch, data_uri(read_grid(path))] for epoch, path in chosen.items()]
    return Markup(json.dumps(pictures)) if pictures else ""


def panel(found: Nearest | str) -> dict[str, Any]:
    """What the layout shows of nearest training images."""
    if isinstance(found, str):
        return {"line": found}
    tiles = [
        [data_uri(grid(image[None], 1), image.shape[-1] <= MAX_LOSSLESS) for image in (sample, *own)]
        for sample, own in zip(found.samples, found.found.images, strict=True)
    ]
    rows = [{"tiles": own, "distance": f"{float(d[0]):.1f}"} for own, d in zip(tiles, found.found.distances, strict=True)]
    line = (
        f"Median distance to the nearest training image: {found.median:.1f} for {found.num_samples} samples, "
        f"{found.floor:.1f} for {found.num_real} test images (root mean square over pixels, 0 to 255)."
    )
    return {"line": line, "rows": rows}
