"""A generative model as an ONNX graph: from noise and a label to the image, any batch size.

The denoiser of a diffusion model is one function of the file, which every evaluation calls. The graph is float32 and uses the
averaged weights; its inputs are those of `genai.runs.graphs`.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genai import __version__
from genai.errors import UserError
from genai.files import open_atomically
from genai.models.base import ImageModel
from genai.runs import Run
from genai.runs.graphs import DENOISE, DOMAIN, DenoiserGraph, DiffusionGraph, SamplingGraph, VAEGraph, sampling_graph
from genai.runs.sampling import default_condition

EXAMPLE = 3  # images in the batch that is traced; 0 and 1 would be taken for constants


def export_onnx(run: Run, model: Any, path: Path) -> int:
    """Write the graph of a run's model; returns the size of the file in bytes.

    Args:
        run: for the condition, and as metadata.
        model: in eval mode, on the processor.
        path: of the file; it is replaced.

    Raises:
        UserError: the onnx packages are missing, or the model has no graph.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch.onnx needs it)
    except ImportError:
        raise UserError('an ONNX graph needs packages that are not installed: pip install "genai[onnx]"') from None
    graph = sampling_graph(model).eval()
    arguments = example(run, graph, range(EXAMPLE))
    names = [*(own.name for own in graph.inputs), "label"][: len(arguments)]
    proto = trace(graph, arguments, names, nested=isinstance(graph, VAEGraph))
    if isinstance(graph, DiffusionGraph):
        encoded = model.encode_condition(arguments[1] if len(arguments) > 1 else None)
        inputs = [arguments[0][:, 0], torch.ones(EXAMPLE), *([] if encoded is None else [encoded])]
        denoiser_names = ["x", "sigma", "condition"][: len(inputs)]
        add_function(proto, trace(DenoiserGraph(model).eval(), inputs, denoiser_names))
    onnx.helper.set_model_props(proto, dict(describe(run, graph)))
    with open_atomically(path) as file:
        file.write(proto.SerializeToString())
    return path.stat().st_size


def trace(graph: nn.Module, arguments: Sequence[Tensor], names: Sequence[str], nested: bool = False) -> Any:
    """The ModelProto of a module for any batch size; `nested`: all arguments after the first are `*others` of `forward`."""
    batch = torch.export.Dim("batch", min=1)
    shapes: list[Any] = [{0: batch} for _ in arguments]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            graph,
            tuple(arguments),
            input_names=names,
            output_names=["images"],
            dynamic_shapes=(shapes[0], tuple(shapes[1:])) if nested and shapes[1:] else tuple(shapes),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def add_function(proto: Any, function: Any) -> None:
    """Add a traced module as the function DENOISE to a model that calls it. Its weights are stored once.

    A function of ONNX has no weights, so they become initializers of the model that each call passes.
    """
    from onnx import helper

    weights = [f"{DENOISE}.{own.name}" for own in function.graph.initializer]
    for node in proto.graph.node:
        if (node.domain, node.op_type) == (DOMAIN, DENOISE):
            node.input.extend(weights)
    inputs = [own.name for own in (*function.graph.input, *function.graph.initializer)]
    outputs = [own.name for own in function.graph.output]
    body = helper.make_function(DOMAIN, DENOISE, inputs, outputs, function.graph.node, function.opset_import)
    for name, own in zip(weights, function.graph.initializer, strict=True):
        proto.graph.initializer.add().CopyFrom(own)
        proto.graph.initializer[-1].name = name
    proto.functions.extend([*function.functions, body])
    imported = {own.domain for own in proto.opset_import}
    proto.opset_import.extend(own for own in function.opset_import if own.domain not in imported)


def example(run: Run, graph: SamplingGraph, seeds: Sequence[int]) -> list[Tensor]:
    """Arguments of the graph for `seeds`: random numbers and the default condition."""
    model: ImageModel = graph.model
    condition = default_condition(run, model, len(seeds))
    return graph.random(seeds) + ([] if condition is None else [condition])


def describe(run: Run, graph: SamplingGraph) -> Mapping[str, str]:
    """What the file says of itself: what it is, and what each input is."""
    record = run.record()
    about = {"software": f"genai {__version__}", "run": run.name, "model": record["model"], "data": record["data"]}
    for own in graph.inputs:
        numbers = "standard normal" if own.kind == "normal" else "uniform in (0, 1)"
        about[own.name] = (
            f"float32 (N, {', '.join(map(str, own.shape))}), {numbers}" if own.shape else f"float32 (N,), {numbers}"
        )
    if graph.model.conditional:
        about["label"] = f"{record.get('label_kind', 'class')}: {', '.join(map(str, record['class_names'][:100]))}"
    return about | {"images": "float32 (N, C, H, W) in [-1, 1], generated by a model"}
