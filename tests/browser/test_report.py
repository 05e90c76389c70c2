"""`genai report` in a real browser: the page opens from a file, its slider changes the picture, its charts are drawn."""

from pathlib import Path

import pytest

from genai.cli import main
from tests.browser.conftest import Watched
from tests.families import TRUST, family

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a small GAN of two epochs and a zoo entry."""
    folder = tmp_path_factory.mktemp("report")
    run = folder / "runs/tiny/one"
    gallery = ["--gallery.every_n_epochs", "1", "--gallery.num", "9", "--run_dir", str(run), "--trainer.max_epochs", "2"]
    assert (
        main(["fit", *family("gan"), *gallery, "--evaluation.every_n_epochs", "1", "--trainer.limit_train_batches", "4"]) == 0
    )
    path = folder / "report.html"
    assert main(["report", str(run), "zoo/digits-diffusion", "--num", "9", "--out", str(path), *TRUST]) == 0
    return path


def test_the_page_opens_and_its_slider_changes_the_picture(report: Path, watched: Watched) -> None:
    page = watched.page
    page.goto(report.as_uri())
    frame = page.locator("img.frame")
    last = frame.get_attribute("src")
    slider = page.locator("input.slider")
    slider.focus()
    slider.press("Home")
    assert page.locator("output").text_content() == "1"
    assert frame.get_attribute("src") != last
    page.wait_for_function("Bokeh.documents.length > 0 && document.querySelectorAll('.bk-Figure').length >= 3")
    width, view = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= view  # nothing sticks out
    watched.check()
