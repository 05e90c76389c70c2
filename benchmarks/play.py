"""Time of sixteen digits in the playground: sampling alone, and from the click to the picture in a browser.

    python benchmarks/play.py [--no-browser]

`sampling` is processor time on one thread, without and with contention alike. `browser` is the shortest wall-clock time of some
clicks on `Sample` in Debian's Chromium (playwright), until the new picture is decoded; `server` is the processor time of the
same click in this process, all threads together. What is between them is Gradio's queue, PNG and the browser.
"""

import argparse
import shutil
import socket
import time
from typing import Any

from rich.console import Console
from rich.table import Table

from genai.report.play.actions import PlayableRun, Settings
from genai.runs import find, load

NAMES = ("zoo/mnist-gan", "zoo/mnist-diffusion-ect", "zoo/mnist-diffusion")
CLICKS = 5
CLICK = """() => new Promise(done => {
  const visible = selector => [...document.querySelectorAll(selector)].find(element => element.offsetParent);
  const before = visible(".samples img")?.src, start = performance.now();
  new MutationObserver((_, observer) => {
    const image = visible(".samples img");
    if (!image || image.src === before) return;
    observer.disconnect();
    image.decode().then(() => done((performance.now() - start) / 1000));
  }).observe(document.body, {subtree: true, childList: true, attributes: true, attributeFilter: ["src"]});
  [...document.querySelectorAll("button")].find(button => button.offsetParent && button.innerText === "Sample").click();
})"""


def sampling(run: PlayableRun) -> float:
    """Seconds of one thread for sixteen digits and their picture."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run.sample(1, 16, Settings(steps=1))  # warm up
    start = time.process_time()
    run.sample(0, 16, Settings())
    torch.set_num_threads(threads)
    return time.process_time() - start


def in_browser(run: PlayableRun, browser: Any) -> tuple[float, float]:
    """Seconds from the click to the picture, and of this process meanwhile: the shortest of some clicks."""
    from genai.report.play import page

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    blocks = page.build([run])
    page.serve(blocks, port, wait=False)
    tab = browser.new_page()
    tab.set_default_timeout(300_000)
    tab.goto(f"http://127.0.0.1:{port}")
    seed = tab.locator(".seed input[type=number] >> visible=true")
    found = []
    for i in range(CLICKS):
        seed.fill(str(i + 1))
        start = time.process_time()
        found.append((tab.evaluate(CLICK), time.process_time() - start))
    tab.close()
    blocks.close()
    return min(wall for wall, _ in found), min(own for _, own in found)


def main() -> None:
    """Print a row for each zoo entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-browser", action="store_true", help="sampling alone")
    is_alone = parser.parse_args().no_browser
    table = Table("run", "sampling, s", "browser, s", "server, s")
    runs = [PlayableRun(find(name), name, load(name)) for name in NAMES]
    if is_alone:
        for run in runs:
            table.add_row(run.name, f"{sampling(run):.2f}", "", "")
    else:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            program = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            for run in runs:
                table.add_row(run.name, *(f"{seconds:.2f}" for seconds in (sampling(run), *in_browser(run, browser))))
            browser.close()
    Console(width=80).print(table)


if __name__ == "__main__":
    main()
