"""The Gradio page of the playground. It listens on the loopback address, and loads and sends nothing elsewhere."""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from html import escape
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before Gradio is imported

from genai.errors import UserError
from genai.escaping import literal
from genai.report.play.actions import SIDES, Cancelled, PlayableRun, Settings
from genai.report.play.controls import ALL
from genai.report.play.drawing import digit, ink
from genai.report.play.text import PlayableText

try:
    import gradio as gr
except ImportError:
    raise UserError('`genai play` needs Gradio: pip install "genai[play]"') from None

HOST = "127.0.0.1"
NUM = 16  # samples in a grid
MAX_SEED = 9999
MAX_TOKENS = 1024
STYLE = """
.gradio-container, .gradio-container > main { width: 100% !important; max-width: 1100px !important; margin: 0 auto !important; }
.gradio-container img { image-rendering: pixelated; }
footer { display: none !important; }
"""
TAKE_BRUSH = """() => {
  const take = setInterval(() => {
    const brush = [...document.querySelectorAll("button[aria-label=Brush]")].find(button => button.offsetParent);
    if (brush) { brush.click(); clearInterval(take); }
  }, 200);
  setTimeout(() => clearInterval(take), 10000);
}"""  # the canvas begins without a tool
NO_ICON = '<link rel="icon" href="data:,">'


def check_port(port: int) -> None:
    """Raise UserError if another program listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise UserError(f"port {port} is reserved for the system: choose one from 1024, such as --port 7860") from None
        except OSError:
            raise UserError(f"port {port} is taken: choose another one with --port {port + 1}") from None


def serve(page: "gr.Blocks", port: int, wait: bool = True) -> None:
    """Serve the page on the loopback address; `wait` until it is interrupted."""
    page.queue(default_concurrency_limit=1)
    fonts = ["system-ui", "DejaVu Sans", "sans-serif"]
    theme = gr.themes.Base(font=fonts, font_mono=["monospace"])
    page.launch(
        server_name=HOST,
        server_port=port,
        quiet=True,
        share=False,
        footer_links=[],
        prevent_thread_lock=True,
        ssr_mode=False,
        theme=theme,
        css=STYLE,
        head=NO_ICON,
    )
    print(f"playing at http://{HOST}:{port} (Ctrl-C stops it)", flush=True)
    if wait:
        page.block_thread()


def build(runs: Sequence[PlayableRun | PlayableText]) -> "gr.Blocks":
    """A tab for each run, and before them those that show several runs of images, and several of text, side by side."""
    images = [run for run in runs if isinstance(run, PlayableRun)]
    texts = [run for run in runs if isinstance(run, PlayableText)]
    with gr.Blocks(title="genai play", analytics_enabled=False) as page:
        if len(images) > 1:
            with gr.Tab("Side by side"):
                side_by_side(images)
        if len(texts) > 1:
            with gr.Tab("Texts side by side"):
                written_by(texts)
        for run in runs:
            with gr.Tab(run.name):
                if isinstance(run, PlayableText):
                    written_by([run])
                else:
                    one_run(run)
    return page


def written_by(runs: Sequence[PlayableText]) -> None:
    """A prompt and settings, and what each run writes with them."""
    prompt = gr.Textbox("", label="prompt", placeholder="empty: the start of a text", lines=2)
    with gr.Row():
        settings = [
            gr.Slider(0, MAX_SEED, 0, step=1, label="seed"),
            gr.Slider(16, MAX_TOKENS, 300, step=16, label="tokens"),
            gr.Slider(0, 2, 0.8, step=0.05, label="temperature"),
            gr.Slider(0, 100, 0, step=1, label="top k (0: all)"),
        ]
    with gr.Row():
        button = gr.Button("Write", variant="primary")
        cancel = gr.Button("Cancel")
    with gr.Row():
        texts = [gr.Textbox(label=run.name, lines=16, max_lines=16, min_width=300, elem_classes="written") for run in runs]
    for run, shown in zip(runs, texts, strict=True):
        gr.on([button.click, prompt.submit], growing(run), [prompt, *settings], shown, show_progress="minimal")
        cancel.click(run.cancel, queue=False)


def side_by_side(runs: Sequence[PlayableRun]) -> None:
    """Samples of each run from the same seeds."""
    seed = gr.Slider(0, MAX_SEED, 0, step=1, label="seed", elem_classes="seed")
    button = gr.Button("Sample", variant="primary")
    with gr.Row():
        outputs = [output(run.name) for run in runs]
    for run, shown in zip(runs, outputs, strict=True):
        action = guarded(lambda seed, progress, run=run: run.sample(seed, NUM, Settings(), progress))
        gr.on([button.click, seed.release], action, [seed], shown)


def one_run(run: PlayableRun) -> None:
    """The controls of a run."""
    controls = run.controls
    with gr.Row():
        seed = gr.Slider(0, MAX_SEED, 0, step=1, label="seed", elem_classes="seed")
        settings = settings_inputs(run)
    with gr.Tab("Samples"):
        with gr.Row():
            button = gr.Button("Sample", variant="primary")
            cancel = gr.Button("Cancel", visible=controls.steps is not None)
        samples = output("samples")
        action = guarded(lambda seed, *values: run.sample(seed, NUM, settings_from(run, values[:-1]), values[-1]))
        gr.on([button.click, seed.release], action, [seed, *settings], samples)
        cancel.click(run.cancel, queue=False)
    if controls.has_latents:
        with gr.Tab("Latent space"):
            latent_space(run, seed, settings)
    if controls.has_canvas:
        with gr.Tab("Draw") as tab:
            canvas(run, seed, settings)
        tab.select(None, js=TAKE_BRUSH)


def settings_inputs(run: PlayableRun) -> list[Any]:
    """The inputs of condition, guidance and steps that the model has, in the order of `settings_from`."""
    controls = run.controls
    inputs: list[Any] = []
    if controls.condition == "class":
        inputs.append(gr.Dropdown([ALL, *controls.choices], value=ALL, label="label"))
    if controls.condition == "attributes":
        inputs.append(gr.Dropdown(list(controls.choices), value=[], multiselect=True, label="attributes"))
    if controls.condition == "text":
        inputs.append(gr.Textbox("", label="prompt", placeholder="empty: captions of training images"))
    if controls.guidance is not None:
        inputs.append(gr.Slider(0, 8, controls.guidance, step=0.1, label="guidance"))
    if controls.steps is not None:
        inputs.append(gr.Slider(1, 100, controls.steps, step=1, label="steps"))
    return inputs


def settings_from(run: PlayableRun, values: Sequence[Any]) -> Settings:
    """The values of `settings_inputs` as `Settings`."""
    controls = run.controls
    names = {"class": ["label"], "attributes": ["attributes"], "text": ["prompt"]}.get(controls.condition, [])
    names += ["guidance"] * (controls.guidance is not None) + ["steps"] * (controls.steps is not None)
    return Settings(**dict(zip(names, values, strict=True)))


def latent_space(run: PlayableRun, seed: Any, settings: list[Any]) -> None:
    """A pad over a slice of the latent space, and interpolation between two seeds."""
    gr.Markdown("The corners of the map are four samples of the seed. Click on the map, or move the sliders.")
    with gr.Row():
        pad = output("map")
        shown = output("decoded image")
    with gr.Row():
        x, y = (gr.Slider(0, 1, 0.5, step=0.01, label=label, elem_classes=f"pad-{label}") for label in ("x", "y"))
    show_map = guarded(lambda seed, *values: run.pad_map(seed, settings_from(run, values[:-1])))
    show = guarded(lambda seed, x, y, *values: run.pad(seed, x, y, settings_from(run, values[:-1])))
    button = gr.Button("Show the map", variant="primary")
    gr.on([button.click, seed.release], show_map, [seed, *settings], pad)
    gr.on([button.click, x.change, y.change], show, [seed, x, y, *settings], shown)
    pad.select(clicked, pad, [x, y])
    gr.Markdown("Interpolation from the first sample of the seed to that of another one.")
    other = gr.Slider(0, MAX_SEED, 1, step=1, label="other seed", elem_classes="other-seed")
    row = output("interpolation")
    interpolate = guarded(lambda seed, other, *values: run.interpolate(seed, other, 9, settings_from(run, values[:-1])))
    gr.on([button.click, other.release], interpolate, [seed, other, *settings], row)


def clicked(pad: Any, event: gr.SelectData) -> tuple[float, float]:
    """The position of a click on the map, in [0, 1]."""
    return event.index[0] / pad.width, event.index[1] / pad.height


def canvas(run: PlayableRun, seed: Any, settings: list[Any]) -> None:
    """A canvas whose digit is classified, reconstructed, varied and filled in, as far as the model can."""
    shape = run.model.image_shape
    with gr.Row():
        brush = gr.Brush(default_size=22, colors=["#000000"], color_mode="fixed")
        drawn = gr.Sketchpad(
            label="draw a digit",
            canvas_size=(280, 280),
            fixed_canvas=True,
            brush=brush,
            layers=False,
            transforms=(),
            height=400,
        )
        with gr.Column():
            probabilities = gr.Label(label="classifier of the dataset", num_top_classes=3, visible=run.controls.classifies)
            edited = output("result", visible=bool(run.controls.edits))

    def image(value: Any) -> Any:
        return digit(ink(value["layers"]), shape)

    buttons = gr.Row()
    if run.controls.classifies:
        with buttons:
            button = gr.Button("Classify")
        button.click(guarded(lambda value, progress: run.classify(image(value))), drawn, probabilities)
    if "reconstruct" in run.controls.edits:
        with buttons:
            button = gr.Button("Reconstruct")
        action = guarded(lambda value, *values: run.reconstruct(image(value), settings_from(run, values[:-1])))
        button.click(action, [drawn, *settings], edited)
    if "vary" in run.controls.edits:
        strength = gr.Slider(0, 1, 0.6, step=0.05, label="strength of the variation")
        with buttons:
            button = gr.Button("Vary")
        action = guarded(
            lambda value, seed, strength, *values: run.vary(
                image(value), seed, strength, settings_from(run, values[:-1]), values[-1]
            )
        )
        button.click(action, [drawn, seed, strength, *settings], edited)
    if "fill in" in run.controls.edits:
        side = gr.Radio(list(SIDES), value=SIDES[0], label="half to fill in")
        with buttons:
            button = gr.Button("Fill in")
        action = guarded(
            lambda value, side, seed, *values: run.fill_in(
                image(value), side, seed, settings_from(run, values[:-1]), values[-1]
            )
        )
        button.click(action, [drawn, side, seed, *settings], edited)


def growing(run: PlayableText) -> Callable[..., Iterator[str]]:
    """An event of Gradio that shows what a run writes while it is written."""

    def event(prompt: str, seed: int, num_tokens: int, temperature: float, top_k: int) -> Iterator[str]:
        try:
            yield from run.write(prompt, int(seed), int(num_tokens), temperature, int(top_k))
        except Cancelled:
            return
        except UserError as error:
            raise gr.Error(escape(str(error)), print_exception=False) from None  # it shows HTML

    return event


def output(label: str, visible: bool = True) -> Any:
    """A picture that the page shows below its label."""
    with gr.Column(min_width=240, visible=visible):
        gr.Markdown(f"**{literal(label)}**")
        classes = label.replace(" ", "-").replace("/", "-")
        return gr.Image(show_label=False, type="pil", format="png", interactive=False, buttons=[], elem_classes=classes)


def guarded(action: Callable[..., Any]) -> Callable[..., Any]:
    """An event of Gradio that runs `action(*values, progress)`; a user's mistake is shown in the page."""

    def event(*values: Any, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008  (Gradio finds it by its default)
        try:
            return action(*values, partial(progress, desc="sampling"))
        except Cancelled:
            return gr.skip()
        except UserError as error:
            raise gr.Error(escape(str(error)), print_exception=False) from None  # it shows HTML

    return event
