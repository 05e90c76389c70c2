"""`genai report`: what the page says of a run, and that it needs no network."""

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from genai.cli import main
from genai.data.arrays import ImageArray
from genai.metrics.registry import all_metrics
from genai.models.seeds import image_seeds
from genai.report.html.charts import MAX_POINTS, curve
from genai.report.html.content import read_run, training_seconds
from genai.report.html.nearest import nearest
from genai.report.html.page import score_row, score_tables, write_report
from genai.report.html.pictures import spaced
from genai.runs import find, load
from genai.runs.text import tokenizer_of
from genai.shipped import ZOO
from tests.families import TRUST, family


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GAN with a grid of each of two epochs, scored on the validation split; and one without scores."""
    folder = tmp_path_factory.mktemp("runs")
    for name, more in {
        "scored": ["--evaluation.every_n_epochs", "1"],
        "plain": ["--model.init_args.ema_halflife_kimg", "1"],
    }.items():
        options = [*family("gan"), "--gallery.every_n_epochs", "1", "--gallery.num", "4", "--trainer.max_epochs", "2"]
        options += ["--trainer.limit_train_batches", "2", "--run_dir", str(folder / name / "run"), *more]
        assert main(["fit", *options]) == 0
    return folder


@pytest.fixture(scope="module")
def page(runs: Path) -> str:
    path = runs / "report.html"
    assert main(["report", str(runs / "scored/run"), str(runs / "plain/run"), "--num", "9", "--out", str(path), *TRUST]) == 0
    return path.read_text()


@pytest.mark.slow
def test_the_page_loads_nothing_from_outside(page: str) -> None:
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    sources = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)""", markup)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "<script src" not in page
    assert len(page) < 3_000_000


@pytest.mark.slow
def test_a_run_without_scores_gets_one_line(page: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unscored = re.findall(r'<p class="unscored">(.*?)</p>', page)
    assert len(unscored) == 1
    assert "genai test plain/run" in unscored[0]
    capsys.readouterr()  # what the fixtures printed
    assert main(["report", str(runs / "plain/run"), "--out", str(runs / "alone.html"), *TRUST]) == 2
    assert not (runs / "alone.html").exists()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert f"`genai test {runs / 'plain/run'}`" in lines[0]


@pytest.mark.slow
def test_paths_of_this_machine_are_left_out(page: str, runs: Path) -> None:
    assert str(runs) not in page


@pytest.mark.slow
def test_settings_that_differ_are_listed_and_others_are_not(page: str) -> None:
    table = page.partition('<table class="settings">')[2].partition("</table>")[0]
    rows = dict(re.findall(r"<tr><td>([^<]+)</td><td>([^<]*)</td>", table))
    assert rows["model.init_args.ema_halflife_kimg"] == "5.0"
    assert "model.init_args.conditional" not in rows
    assert "run_dir" not in rows


@pytest.mark.slow
def test_each_epoch_has_a_frame(page: str) -> None:
    frames = re.findall(r"\[(\d+), \"data:image/webp", page)
    assert frames == ["1", "2"] * 2


@pytest.mark.slow
@pytest.mark.long
def test_five_runs_fit_into_eight_megabytes(runs: Path, tmp_path: Path) -> None:
    noise = tmp_path / "epoch-0001.png"  # nothing compresses worse
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (560, 560, 3), np.uint8)).save(noise)
    run = find(runs / "scored/run")
    content = read_run(run, "one", load(run, trust=["tests"]), 0, 4)
    points = [(1000 * i, 1 / (i + 1)) for i in range(5000)]
    curves = {f"train/loss_{i}": points for i in range(12)}
    five = [replace(content, name=f"run {i}", frames=dict.fromkeys(range(1, 201), noise), curves=curves) for i in range(5)]
    size = write_report(five, {own.name: "none" for own in five}, tmp_path / "five.html", 0)
    assert 2_000_000 < size < 8_000_000
    assert (tmp_path / "five.html").stat().st_size == size


@pytest.mark.slow
def test_a_report_of_text_shows_texts_and_refuses_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "text.html"
    assert main(["report", "zoo/shakespeare-mingru", "--num", "2", "--out", str(path)]) == 0
    page = path.read_text()
    texts = [html.unescape(text) for text in re.findall(r'<pre class="text">(.*?)</pre>', page, re.DOTALL)]
    run = find("zoo/shakespeare-mingru")
    expected = load(run).sample(image_seeds(0, 2), num_tokens=300)
    assert texts == [tokenizer_of(run).text(row) for row in expected.tolist()]
    assert "bits per byte" in page
    assert "Nearest training images" not in page
    assert "tokens seen" in page
    assert main(["report", "zoo/shakespeare-mingru", "zoo/mnist-gan", "--out", str(tmp_path / "x.html")]) == 2
    assert "zoo/mnist-gan generates images and zoo/shakespeare-mingru text" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()


@pytest.mark.slow
def test_text_of_a_run_is_escaped(runs: Path, tmp_path: Path) -> None:
    record = runs / "scored/run/run.json"
    original = record.read_text()
    record.write_text(original.replace('"data": "digits"', '"data": "<script>alert(1)</script>"'))
    try:
        assert main(["report", str(runs / "scored/run"), "--num", "4", "--out", str(tmp_path / "x.html"), *TRUST]) == 0
    finally:
        record.write_text(original)
    assert "<script>alert" not in (tmp_path / "x.html").read_text()


@pytest.mark.slow
def test_out_must_be_html_and_new(runs: Path, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(runs / "scored/run")
    for out in (runs / "report.pdf", runs / "report.html"):
        assert main(["report", run, "--out", str(out)]) == 2
    assert main(["report", run, run, "--out", str(runs / "two.html"), *TRUST]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


@pytest.mark.slow
def test_nearest_images_by_hand() -> None:
    train = torch.tensor([0, 10, 100, 255], dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 1, 2, 2).contiguous()
    split = ImageArray(train.numpy(), torch.zeros(4, dtype=torch.long).numpy())
    found = nearest(torch.full((1, 1, 2, 2), 14, dtype=torch.uint8), split, 2)
    assert found.distances[0].tolist() == pytest.approx([4, 14])
    assert found.images[0, :, 0, 0, 0].tolist() == [10, 0]


@pytest.mark.slow
def test_training_time_comes_from_the_cost_or_from_the_throughput() -> None:
    curves = {"images_per_second": [(100, 50.0), (300, 100.0)]}
    assert training_seconds({}, curves) == pytest.approx(100 / 50 + 200 / 100)
    assert training_seconds({"seconds": 7}, curves) == 7
    assert training_seconds({}, {}) is None


@pytest.mark.slow
def test_frames_keep_the_first_and_the_last() -> None:
    paths = {epoch: Path(f"{epoch}.png") for epoch in range(1, 101)}
    assert list(spaced(paths, 5)) == [1, 26, 51, 75, 100]
    assert list(spaced(paths, 200)) == list(range(1, 101))


def test_a_long_curve_keeps_the_first_and_the_last_point() -> None:
    run = SimpleNamespace(name="a", curves={"loss": [(i, float(i)) for i in range(2 * MAX_POINTS - 1)]})
    chart = curve("loss", [run], None, "images")  # type: ignore[list-item]
    found = chart.renderers[0].data_source.data["y"]
    assert len(found) == MAX_POINTS
    assert (found[0], found[-1]) == (0, 2 * MAX_POINTS - 2)


@pytest.mark.slow
def test_the_floor_of_a_metric_that_one_run_has_stands_alone() -> None:
    haze = next(metric for metric in all_metrics() if metric.name == "haze")
    runs = [SimpleNamespace(evaluation={"scores": scores, "floor": scores}) for scores in ({"haze": 0.25}, {}, {})]
    assert score_row(haze, runs) == [haze.heading, "0.2500", "", "", "0.2500"]  # type: ignore[arg-type]


def test_data_of_one_name_and_other_content_have_their_own_tables() -> None:
    test = json.loads((ZOO / "digits-diffusion/metrics.json").read_text())["test"]
    changed = test | {"protocol": test["protocol"] | {"fingerprint": "0123456789ab"}}
    runs = [SimpleNamespace(name=name, evaluation=own) for name, own in (("a", test), ("b", changed), ("c", test))]
    tables = score_tables(runs)  # type: ignore[arg-type]
    assert [table["runs"] for table in tables] == [["b"], ["a", "c"]]
    assert tables[0]["protocol"].endswith("content of the data 0123456789ab")
