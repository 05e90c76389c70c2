"""`genai play` in a real browser: controls are used, pictures change, digits come in time, and nothing leaves the machine."""

import socket
from collections.abc import Iterator

import pytest

from genai.report.play.actions import PlayableRun
from genai.report.play.text import PlayableText
from genai.runs import find, load
from tests.browser.conftest import Watched

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The playground of a GAN, a diffusion model and a model of text, served by a thread."""
    pytest.importorskip("gradio")
    from genai.report.play import page

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    runs = [PlayableRun(find(name), name, load(name)) for name in ("zoo/mnist-gan", "zoo/mnist-diffusion-ect")]
    text = PlayableText(find("zoo/shakespeare-mingru"), "zoo/shakespeare-mingru", load("zoo/shakespeare-mingru"))
    blocks = page.build([*runs, text])
    page.serve(blocks, port, wait=False)
    yield f"http://127.0.0.1:{port}"
    blocks.close()


def open_tab(watched: Watched, name: str) -> None:
    """Click on a tab, which on a narrow page may be in the menu of the tabs that do not fit."""
    tab = watched.page.get_by_role("tab", name=name, exact=True).locator("visible=true")
    for _ in range(25):
        if not tab.count():
            watched.page.wait_for_timeout(200)
    if not tab.count():
        watched.page.locator(".overflow-menu > button >> visible=true").first.click()
        tab = watched.page.locator(f".overflow-dropdown button:has-text('{name}') >> visible=true")
    tab.first.click()


def picture(watched: Watched, label: str) -> str:
    """The address of the visible picture with this label, which each new picture changes; empty before the first."""
    images = watched.page.locator(f".{label} img >> visible=true")
    return (images.first.get_attribute("src") or "") if images.count() else ""


def wait_for_change(watched: Watched, label: str, before: str) -> str:
    """Wait until another picture is shown."""
    for _ in range(600):
        if (now := picture(watched, label)) not in ("", before):
            return now
        watched.page.wait_for_timeout(200)
    raise AssertionError(f"the picture {label} did not change")


def test_controls_change_pictures(address: str, watched: Watched) -> None:
    page = watched.page
    page.goto(address)
    page.get_by_role("button", name="Sample").locator("visible=true").click()
    first = wait_for_change(watched, "zoo-mnist-gan", "")
    wait_for_change(watched, "zoo-mnist-diffusion-ect", "")
    seed = page.locator(".seed input[type=number] >> visible=true")
    seed.fill("3")
    seed.press("Enter")
    page.get_by_role("button", name="Sample").locator("visible=true").click()
    wait_for_change(watched, "zoo-mnist-gan", first)

    open_tab(watched, "zoo/mnist-gan")
    open_tab(watched, "Latent space")
    page.get_by_role("button", name="Show the map").locator("visible=true").click()
    wait_for_change(watched, "map", "")
    before = wait_for_change(watched, "decoded-image", "")
    page.locator(".map img >> visible=true").click(position={"x": 40, "y": 40})
    wait_for_change(watched, "decoded-image", before)
    width, view = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= view
    watched.check()


def test_a_digit_is_drawn_and_classified(address: str, watched: Watched) -> None:
    page = watched.page
    page.goto(address)
    page.get_by_role("button", name="Sample").locator("visible=true").wait_for()
    open_tab(watched, "zoo/mnist-diffusion-ect")
    open_tab(watched, "Draw")
    box = page.locator("canvas >> visible=true").last.bounding_box()
    x, top, bottom = box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.25, box["y"] + box["height"] * 0.75
    page.wait_for_timeout(2000)  # the page takes the brush
    page.mouse.move(x, top)
    page.mouse.down()
    page.mouse.move(x, bottom, steps=10)
    page.mouse.up()
    page.wait_for_timeout(1000)
    page.get_by_role("button", name="Classify").locator("visible=true").click()
    page.get_by_role("button", name="Vary").locator("visible=true").click()
    wait_for_change(watched, "result", "")
    assert page.locator("[data-testid=label-output-value] >> visible=true").text_content().strip() == "1"
    watched.check()


def set_number(watched: Watched, label: str, value: str) -> None:
    """Write into the number of the visible slider with this label."""
    number = watched.page.get_by_label(f"number input for {label}").locator("visible=true").first
    number.fill(value)
    number.press("Enter")


def test_a_long_sampling_shows_progress_and_is_cancelled(address: str, watched: Watched) -> None:
    page = watched.page
    page.goto(address)
    page.get_by_role("button", name="Sample").locator("visible=true").wait_for()
    open_tab(watched, "zoo/mnist-diffusion-ect")
    set_number(watched, "steps", "100")
    page.get_by_role("button", name="Sample").locator("visible=true").click()
    page.get_by_text("sampling", exact=False).locator("visible=true").first.wait_for()
    page.get_by_role("button", name="Cancel").locator("visible=true").click()
    page.get_by_text("sampling", exact=False).locator("visible=true").first.wait_for(state="hidden", timeout=20_000)
    assert picture(watched, "samples") == ""
    set_number(watched, "steps", "1")
    page.get_by_role("button", name="Sample").locator("visible=true").click()
    wait_for_change(watched, "samples", "")
    watched.check()


def test_a_text_is_written(address: str, watched: Watched) -> None:
    page = watched.page
    page.goto(address)
    page.get_by_role("button", name="Sample").locator("visible=true").wait_for()
    open_tab(watched, "zoo/shakespeare-mingru")
    prompt = page.get_by_label("prompt").locator("visible=true")
    prompt.fill("ROMEO:")
    set_number(watched, "tokens", "64")
    page.get_by_role("button", name="Write").locator("visible=true").click()
    written = page.locator(".written textarea >> visible=true")
    for _ in range(300):
        if len(written.input_value()) == len("ROMEO:") + 64:
            break
        page.wait_for_timeout(200)
    assert len(written.input_value()) == len("ROMEO:") + 64
    assert written.input_value().startswith("ROMEO:")
    watched.check()
