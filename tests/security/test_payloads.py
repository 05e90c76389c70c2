"""Files from elsewhere execute nothing: pickles that replace data, checkpoints, weights and arrays."""

import ast
import contextlib
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import genai
from genai.cli import main
from genai.data import cache
from genai.data.image_folder import ImageFolder
from genai.data.olivetti import Olivetti
from genai.errors import UserError
from genai.metrics.features import load_extractor
from genai.runs import REPOSITORY
from genai.runs.loading import read_checkpoint
from tests.security.test_execution import write_run


class Payload:
    """A pickle of it touches `owned` when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("owned"),)


@pytest.fixture
def payload(workspace: Path) -> bytes:
    """A pickle that was seen to work."""
    content = pickle.dumps(Payload())
    pickle.loads(content)
    Path("owned").unlink()
    return content


def objects(file: Path) -> Path:
    """An array of objects with a payload, as joblib writes it."""
    array = np.empty((400, 4096), object)
    array[:] = Payload()
    joblib.dump(array[:1], file)
    return file


@pytest.mark.parametrize("form", ["pickle", "compressed", "joblib", "before the numbers", "after the numbers"])
def test_a_pickle_in_the_data_folder_is_not_unpickled(
    form: str, payload: bytes, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = workspace / "numbers"
    joblib.dump(np.zeros((400, 4096), np.uint8), numbers)
    content = {
        "pickle": payload,
        "compressed": zlib.compress(payload),
        "joblib": objects(workspace / "objects").read_bytes(),
        "before the numbers": payload[:-1] + b"0" + numbers.read_bytes(),  # the opcode 0 drops what the payload returned
        "after the numbers": numbers.read_bytes()[:-1] + b"0" + payload,
    }[form]
    (workspace / "data/olivetti").mkdir(parents=True)
    (workspace / "data/olivetti/olivetti_py3.pkz").write_bytes(content)
    monkeypatch.setenv("GENAI_DATA", str(workspace / "data"))
    monkeypatch.setenv("GENAI_CACHE", str(workspace / "cache"))
    with contextlib.suppress(UserError):  # numbers after a payload are read as what they are
        Olivetti(size=8, channels=1).prepare_data()
    assert not Path("owned").exists()


@pytest.mark.parametrize("part", ["all of it", "state_dict", "hyper_parameters", "callbacks"])
def test_a_pickle_in_a_checkpoint_is_refused(part: str, payload: bytes, workspace: Path) -> None:
    checkpoint: Any = {"state_dict": {}, "images_seen": 0, part: Payload()}
    torch.save(Payload() if part == "all of it" else checkpoint, "x.ckpt")
    for _ in range(2):
        with pytest.raises(UserError, match=r"x\.ckpt is damaged or not a checkpoint"):
            read_checkpoint(Path("x.ckpt"))
        Path("x.ckpt").write_bytes(payload)
    assert not Path("owned").exists()


def test_hyper_parameters_of_a_checkpoint_are_not_a_config(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning would import `_class_path` and `_instantiator`, and take options from there."""
    Path("payload.py").write_text("import pathlib\npathlib.Path('owned').touch()\ndef opt(*a, **k): pass\n")
    monkeypatch.syspath_prepend(str(workspace))
    run = write_run(workspace / "runs/theirs/first")
    model = genai.load("zoo/mnist-gan")
    named = {"_class_path": "payload.opt", "_instantiator": "payload.opt", "generator": {"class_path": "payload.opt"}}
    state = {"state_dict": model.state_dict(), "images_seen": 1, "hyper_parameters": named, "hparams_name": "kwargs"}
    torch.save(
        {**state, "datamodule_hyper_parameters": named, "hyper_parameters_type": "payload.opt"}, run / "checkpoints/last.ckpt"
    )
    assert main(["sample", str(run), "--checkpoint", "last", "--num", "1", "--out", "x.png"]) == 0
    assert not Path("owned").exists()


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
def test_a_cached_array_of_objects_is_not_read(name: str, payload: bytes, workspace: Path) -> None:
    np.save("images.npy", np.zeros((1, 1, 8, 8), np.uint8))
    np.save("labels.npy", np.zeros(1, np.int64))
    array = np.empty(1, object)
    array[0] = Payload()
    np.save(name, array)
    Path("meta.json").write_text(json.dumps({"source": 1}))
    assert cache.read(workspace, 1) is None
    assert not Path("owned").exists()


def test_a_folder_of_pictures_with_arrays_and_pickles(payload: bytes, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_CACHE", str(workspace / "cache"))
    folder = workspace / "pictures"
    folder.mkdir()
    array = np.empty(1, object)
    array[0] = Payload()
    np.save(folder / "a.npy", array)
    np.savez(folder / "b.npz", array)
    for name in ("c.pkl", "d.png", "e.pt", "f.jpg", "g"):
        (folder / name).write_bytes(payload)
    (folder / "h.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(owned) (w) file closefile\n")
    with pytest.raises(UserError):
        ImageFolder(str(folder), size=8).prepare_data()
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    "class_path",
    [
        "payload.opt",
        "os.system",
        "genai.networks.mlp.nn.Linear",
        "genai.networks.absent.Network",
        "genai.networks.mlp.Sequence",
        "genai.networks.mlp.nn",
        "genai.networks.resnet.spectral_norm",
        "genai.networks.mlp.__builtins__",
    ],
)
def test_a_feature_network_names_networks_of_genai_alone(class_path: str, workspace: Path) -> None:
    spec = {"class_path": class_path, "init_args": {"image_shape": [1, 8, 8], "num_classes": 10}}
    about = {"network": json.dumps(spec), "class_names": "[]", "task": "class", "data": "digits"}
    save_file({"x": torch.zeros(1)}, "x.safetensors", about)
    with pytest.raises(UserError, match="names the class"):
        load_extractor("x.safetensors")


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt", "inception"])
def test_weights_that_are_a_pickle_are_refused(name: str, payload: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("x.safetensors").write_bytes(payload)
    monkeypatch.setenv("GENAI_INCEPTION", "x.safetensors")
    with pytest.raises(UserError):
        load_extractor(name)
    assert not Path("owned").exists()


def test_weights_of_a_zoo_entry_that_are_a_pickle_are_refused(payload: bytes, workspace: Path) -> None:
    run = write_run(workspace / "runs/theirs/first")
    (run / "weights.safetensors").write_bytes(payload)
    with pytest.raises(UserError):
        genai.load(run)
    assert not Path("owned").exists()


UNSAFE = {
    "eval",
    "exec",
    "pickle",
    "cPickle",
    "joblib",
    "dill",
    "shelve",
    "marshal",
    "unsafe_load",
    "full_load",
    "fetch_olivetti_faces",
}
ALLOWED = {("genai/data/olivetti.py", "fetch_olivetti_faces")}  # downloads the original and holds it to its SHA-256


def test_no_module_calls_what_executes_its_input() -> None:
    """torch.load always has weights_only=True; nothing unpickles, evaluates text or reads YAML of any type."""
    found = set()
    for path in sorted((REPOSITORY / "genai").rglob("*.py")):
        name = str(path.relative_to(REPOSITORY))
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                named = {getattr(node, "module", None) or ""} | {alias.name for alias in node.names}
                found |= {(name, part) for module in named for part in module.split(".") if part in UNSAFE}
            if not isinstance(node, ast.Call):
                continue
            call, options = ast.unparse(node.func), {option.arg: ast.unparse(option.value) for option in node.keywords}
            if call in UNSAFE or call == "yaml.load" or options.get("allow_pickle") == "True":
                found.add((name, call))
            if call == "torch.load" and options.get("weights_only") != "True":
                found.add((name, call))
    assert found - ALLOWED == set()
