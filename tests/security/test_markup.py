"""Names and texts of a run from elsewhere are shown as text: in reports, model cards, Markdown, charts and the playground."""

import copy
import html
import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from markdown_it import MarkdownIt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from genai.cli import main
from genai.errors import UserError
from genai.escaping import code, in_chart, literal, literals
from genai.metrics.text import TextProtocol
from genai.report.comparison import as_markdown, find_groups
from genai.report.html.content import RunContent, flatten
from genai.report.html.page import write_report
from genai.runs import REPOSITORY, Run
from genai.runs.export import card, read_shared
from genai.runs.hub import hub_card

TEXTS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "![x](http://example.org/x.png)",
    "[click](javascript:alert(3))",
    "`` `whoami` ``",
    "a | b | c",
    "x\n\n# Heading\n\n---\nlicense: mine\n---\n",
    "http://example.org www.example.org me@example.org",
    "&lt;b&gt; <b>bold</b> **bold** _x_ ~~x~~",
    "$$x^$$ $x^$",
    "{model} {0} %s",
    "</pre></textarea><svg onload=alert(4)>",
]
ATTRIBUTES = {"src", "href", "srcdoc", "action", "style"}


class Tags(HTMLParser):
    """The tags of a page with what could load or run something: (tag, attribute, value)."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, "", "")]
        self.found += [(tag, name, value or "") for name, value in attrs if name in ATTRIBUTES or name.startswith("on")]


def rendered(markdown: str) -> list[tuple[str, str, str]]:
    return Tags(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown)).found


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_one_paragraph_of_text(text: str) -> None:
    line = " ".join(text.split())
    for markdown, tags in ((literal(text), {"p"}), (f"**{literal(text)}**", {"p", "strong"}), (code(text), {"p", "code"})):
        assert {tag for tag, *_ in rendered(markdown)} == tags
        page = MarkdownIt("commonmark").render(markdown)
        assert line in " ".join(html.unescape(page.replace("<p>", "")).split())
    table = MarkdownIt("commonmark").enable("table").render(f"| a | b |\n|---|---|\n| {literal(text)} | {code(text, True)} |\n")
    assert table.count("<td>") == 2
    assert not [part for part in rendered(table) if part[1]]


@pytest.mark.parametrize("text", ["mnist-gan", "zoo/mnist-gan", "2.15.0+cpu", "3.07 ± 0.12 (0.065)", "12 %", "R3GAN"])
def test_names_and_numbers_stay_as_they_are(text: str) -> None:
    assert literal(text) == text


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_no_formula_of_a_chart(text: str) -> None:
    figure = Figure(figsize=(2, 2))
    figure.add_subplot(title=in_chart(text))
    FigureCanvasAgg(figure).draw()


def crafted(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record and the test scores of a zoo entry with the text in each place that a card shows."""
    entry = Run(REPOSITORY / "zoo/mnist-gan")
    record, test = entry.record(), copy.deepcopy(entry.scores()["test"])
    record |= {"model": text, "data": text, "command": f"genai fit {text}", "resumed_with": [text]}
    record["versions"] |= dict.fromkeys(("genai", "torch", "lightning"), text)
    test["protocol"] |= dict.fromkeys(("data", "split", "features", "weights_sha256"), text)
    return record, test


@pytest.mark.parametrize("text", TEXTS)
def test_a_model_card_has_no_tag_or_link_of_a_name(text: str) -> None:
    record, test = crafted(text)
    page = rendered(card("zoo/theirs", record, test, "float32", 10))
    plain = rendered(card("zoo/theirs", *crafted("x"), "float32", 10))
    assert [part for part in page if part[0] != "code"] == [part for part in plain if part[0] != "code"]


@pytest.mark.parametrize("text", TEXTS)
def test_the_card_on_the_hub_has_one_header(text: str, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    pages = []
    for own in (text, "x"):
        run = Run(tmp_path / str(len(pages)))
        run.path.mkdir()
        record, test = crafted(own)
        for name, content in (("run.json", record), ("metrics.json", {"test": test})):
            (run.path / name).write_text(json.dumps(content))
        _, header, body = hub_card(run, "someone/theirs", "mit", "").split("---\n", 2)
        assert yaml.safe_load(header)["license"] == "mit"
        assert yaml.safe_load(header)["model-index"][0]["name"] == "theirs"
        pages.append([part for part in rendered(body) if part[0] != "code"])
    assert pages[0] == pages[1]


def test_the_protocol_of_text_is_plain() -> None:
    protocol = {"data": TEXTS[0], "fingerprint": TEXTS[1], "split": TEXTS[2], "tokenizer": TEXTS[3]}
    numbers = {name: 1 for name in TextProtocol.__annotations__ if name not in protocol}
    assert {tag for tag, *_ in rendered(TextProtocol(**literals(protocol | numbers)).describe())} == {"p"}


def test_a_table_in_markdown_has_no_tag_of_a_name(workspace: Path) -> None:
    run = Path(shutil.copytree(REPOSITORY / "zoo/mnist-gan", workspace / "runs/theirs/<img src=x>"))
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["cost"] = {"seconds": 1.0, "energy_kwh": 1.0, "energy_source": TEXTS[1], "step_flops": {TEXTS[0]: 1.0}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    tags = {tag for tag, *_ in rendered(as_markdown(find_groups([str(run)])))}
    assert tags <= {"table", "thead", "tbody", "tr", "th", "td", "p", "em"}


@pytest.mark.parametrize("name", ["directions.safetensors", "model.onnx"])
def test_a_link_is_not_shared(name: str, tmp_path: Path) -> None:
    (tmp_path / "private").write_text("secret")
    (tmp_path / name).symlink_to(tmp_path / "private")
    with pytest.raises(UserError, match="is a link"):
        read_shared(tmp_path / name)


def content_of(text: str, texts: list[str]) -> RunContent:
    """A run in a report with the text in each place that the page shows."""
    record, test = crafted(text)
    test |= {"parameters": {text: 5}, "class_shares": {"names": [text, "b"], "samples": [0.5, 0.5], "reference": [0.5, 0.5]}}
    curves = {f"val/{text}": [(1, 1.0), (2, 2.0)], "val/fid": [(1, 1.0), (2, 2.0)]}
    images = torch.zeros(0 if texts else 2, 1, 8, 8, dtype=torch.uint8)
    settings = flatten({text: {text: text}})
    run = Run(Path("runs") / text.replace("/", "_"))
    return RunContent(run, text, record, settings, "test", test, curves, {}, images, texts, 0.1, 9.0, {text: text})


IN_PAGE = [TEXTS[0], TEXTS[1], TEXTS[-1]]


@pytest.mark.slow
@pytest.mark.parametrize("texts", [[], IN_PAGE], ids=["images", "text"])
def test_a_report_has_no_tag_or_script_of_a_name(texts: list[str], tmp_path: Path) -> None:
    """Whatever the runs are called, the page has the same tags and attributes, and runs its own scripts alone."""
    pages = []
    for names in (IN_PAGE, [f"run {i}" for i in range(len(IN_PAGE))]):
        runs = [content_of(name, [names[0]] * len(texts)) for name in names]
        runs = [replace(run, evaluation={}) for run in runs] if texts else runs
        write_report(runs, {run.name: run.name for run in runs}, tmp_path / "x.html", 0)
        page = (tmp_path / "x.html").read_text()
        pages.append([part for part in Tags(page).found if not part[1].startswith("data-")])
        assert "script-src 'nonce-" in page
        assert page.count("<script") == page.count("<script nonce=")
    assert pages[0] == pages[1]


@pytest.mark.slow
def test_labels_and_errors_of_the_playground_are_text() -> None:
    gradio = pytest.importorskip("gradio")
    from genai.report.play import page

    with gradio.Blocks() as blocks:
        for text in TEXTS:
            page.output(text)
    labels = [block.value for block in blocks.blocks.values() if isinstance(block, gradio.Markdown)]
    assert len(labels) == len(TEXTS)
    assert {tag for label in labels for tag, *_ in rendered(label)} == {"p", "strong"}

    def refuse(*values: Any) -> None:
        raise UserError(TEXTS[1])

    with pytest.raises(gradio.Error) as error:
        page.guarded(refuse)(1)
    assert "<" not in error.value.message


def test_a_config_of_a_stranger_in_a_report(workspace: Path) -> None:
    """The command itself: the texts in run.json, metrics.json and the table of curves."""
    run = Path(shutil.copytree(REPOSITORY / "zoo/mnist-gan", workspace / f"runs/theirs/{TEXTS[1]}"))
    record, test = crafted(TEXTS[0])
    sha256 = json.loads((run / "run.json").read_text())["weights_sha256"]
    (run / "run.json").write_text(json.dumps(record | {"weights_sha256": sha256}))
    (run / "metrics.json").write_text(json.dumps({"test": test}))
    (run / "metrics.csv").write_text(f"images_seen,val/{TEXTS[1]}\n1,1\n2,2\n")
    assert main(["report", str(run), "--num", "2", "--out", "x.html"]) == 0
    found = Tags(Path("x.html").read_text()).found
    assert [part for part in found if part[1].startswith("on")] == []
    assert {value[:5] for tag, name, value in found if name == "src"} == {"data:"}
