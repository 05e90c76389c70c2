"""genai export: write a run as a zoo entry, or a model as an ONNX graph

Group: share
"""

from pathlib import Path
from typing import Any

import lightning as L

from genai.cli.options.arguments import VerbParser, add_trust_option, refuse
from genai.cli.options.output import checked
from genai.metrics.features import is_import_path
from genai.models.base import Model
from genai.models.text import TextModel
from genai.runs import find, load
from genai.runs.data import data_of
from genai.runs.export import DTYPES, export_run
from genai.runs.onnx import export_onnx
from genai.runs.trust import read_config
from genai.training.callbacks.evaluation import EvaluateSamples
from genai.training.callbacks.text_evaluation import EvaluateText
from genai.training.launch import quiet_libraries


def parser() -> VerbParser:
    """The options of `genai export`."""
    verb = VerbParser(
        "export",
        "RUN zoo/NAME [options]",
        "Write a tested run as a zoo entry: config, averaged weights, test scores and a model card. With --onnx: only "
        "the graph from noise and label to image, of a run or a zoo entry.",
    )
    verb.add_argument("run", metavar="RUN", help="run directory or experiment (its newest run)")
    verb.add_argument(
        "target", metavar="zoo/NAME", help="the folder to write; with --onnx a folder for model.onnx, or NAME.onnx"
    )
    verb.add_argument("--checkpoint", default="best", metavar="NAME", help="best, last or a file (default: best)")
    text = "auto: bfloat16 if no score changes by more than 1 %%, else float32 (default: auto)"
    verb.add_argument("--dtype", choices=["auto", *DTYPES], help=text)
    verb.add_argument("--onnx", action="store_true", help="write an ONNX graph: float32, samplers unrolled, any batch size")
    verb.add_argument("--force", action="store_true", help="replace the folder or the graph")
    add_trust_option(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Write the zoo entry."""
    options = parser().parse(arguments)
    source = find(options.run)
    if options.onnx:
        refuse(options, ("dtype",), "with --onnx, whose graph is float32")
        target = Path(options.target)
        path = checked(target if target.suffix == ".onnx" else target / "model.onnx", options.force)
        size = export_onnx(source, load(source, options.checkpoint, trust=options.trust), path)
        print(f"wrote {path} ({size / 1e6:.1f} MB)")
        return
    model = load(source, options.checkpoint, trust=options.trust)
    config, policy = read_config(source, options.trust)

    def rescore(rounded: Model, test: dict[str, Any]) -> dict[str, Any]:
        """The test entry of metrics.json of a model, by the protocol of the run's test."""
        protocol = test["protocol"]
        num_samples, seed = protocol["num_samples"], protocol["seed"]
        callback: EvaluateSamples | EvaluateText = EvaluateText(num_samples, seed, prints=False)
        if not isinstance(rounded, TextModel):
            features, weights = protocol["features"], (config.get("evaluation") or {}).get("weights")
            if is_import_path(features) and not policy.unrestricted:
                policy.check_import(features)
            two_sample = "two_sample" in test["scores"]
            print("the scores of the weights in bfloat16, compared with those of the test:", flush=True)
            callback = EvaluateSamples(features, weights, num_samples, seed=seed, two_sample=two_sample)
        quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        quiet_libraries()
        trainer = L.Trainer(accelerator="cpu", devices=1, callbacks=[callback], limit_test_batches=1, **quiet)
        trainer.test(rounded, datamodule=data_of(source, options.trust), verbose=False)
        assert callback.latest_result is not None
        return callback.latest_result.to_dict()

    target = Path(options.target)
    before = file_names(target)
    written = export_run(source, target, model, options.dtype or "auto", rescore, options.force)
    print(f"wrote {written.path} ({written.dtype}, {written.size / 1e6:.1f} MB); left out: {written.removed or 'nothing'}")
    if lost := sorted(before - file_names(target)):
        print(f"removed {', '.join(lost)} of the earlier weights")


def file_names(folder: Path) -> set[str]:
    """The names of a folder's files; none if there is no folder."""
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
