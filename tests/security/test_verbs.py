"""Files from elsewhere that single verbs open: directions, snapshots, curves, pictures and arrays. Each ends in one line."""

import io
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save, save_file

from genai.cli import main
from genai.control.direction_files import digest, load_directions
from genai.data.npz import open_npz
from genai.errors import UserError
from genai.report.credentials import read_credentials
from genai.runs import REPOSITORY
from tests.security.test_execution import write_run

STEER = "\x1b]0;x\x07"
ROW = {"name": "a", "kind": "sefa", "unit": 1.0, "attribute": "b", "auc": 0.9, "random_auc": 0.5, "vector": None}
ABOUT = {"format": 1, "space": "z", "images_seen": 128, "predictor": "p", "predictor_sha256": "s", "num": 9, "seed": 0}


def write_directions(path: Path, text: str, vectors: torch.Tensor) -> Path:
    path.write_bytes(save({"vectors": vectors}, {"directions": text, "sha256": digest(text, vectors)}))
    return path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line with which a verb ended, and that nothing steers the terminal."""
    output = capsys.readouterr()
    [line] = output.err.splitlines()
    assert all(word in line for word in words), line
    assert "\x1b" not in line + output.out
    return line


@pytest.mark.parametrize(
    "change",
    [
        *({"directions": [{**ROW, name: value}]} for name in ROW if name != "vector" for value in (None, [1], {"a": 1}, True)),
        *({"directions": [{**ROW, "unit": value}]} for value in ("x", float("inf"), float("nan"), 10**400)),
        *({name: value} for name in ABOUT if name != "format" for value in (None, [1], True, -1.5)),
        {"directions": []},
        {"directions": {"a": 1}},
        {"directions": [5]},
        {"directions": [ROW, ROW]},
        {"more": 1},
    ],
    ids=lambda change: str(change)[:60],
)
def test_directions_of_wrong_types_are_damaged(change: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps({**ABOUT, "directions": [ROW], **change})
    with pytest.raises(UserError, match="is damaged") as error:
        load_directions(write_directions(tmp_path / "d.safetensors", text, torch.eye(16)[:1]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "vectors",
    [torch.zeros(1), torch.zeros(1, 16, 1), torch.full((1, 16), float("nan")), torch.zeros(2, 16), torch.zeros(0, 16)],
    ids=lambda vectors: str(list(vectors.shape)),
)
def test_directions_that_are_no_vectors_are_damaged(vectors: torch.Tensor, tmp_path: Path) -> None:
    text = json.dumps({**ABOUT, "directions": [ROW]})
    with pytest.raises(UserError, match="is damaged"):
        load_directions(write_directions(tmp_path / "d.safetensors", text, vectors))


def test_names_of_directions_do_not_steer_the_terminal(tmp_path: Path) -> None:
    text = json.dumps({**ABOUT, "directions": [{**ROW, "name": STEER}]})
    found = load_directions(write_directions(tmp_path / "d.safetensors", text, torch.eye(16)[:1]))
    with pytest.raises(UserError) as error:
        found.named("z")
    assert "\x1b" not in found.directions[0].name + str(error.value)
    write_directions(tmp_path / "d.safetensors", "[" * 100_000, torch.eye(16)[:1])
    with pytest.raises(UserError, match="is damaged"):
        load_directions(tmp_path / "d.safetensors")


SNAPSHOTS: dict[str, dict[str, dict[str, torch.Tensor] | None]] = {
    "no widths": {"e-e-5": {}, "0-1": {}, "9-9": {}, "0.05-0": {}, f"1e-5-{'9' * 200}": {}},
    "a width of nothing": {"0.00-5": {"a": torch.zeros(2)}},
    "a width without a profile": {"0.9-5": {"a": torch.zeros(2)}},
    "other weights": {"0.05-5": {"a": torch.zeros(2)}, "0.1-5": {"a": torch.zeros(3)}},
    "weights of another model": {"0.05-5": {"a": torch.zeros(2)}, "0.1-5": {"a": torch.zeros(2)}},
    "a pipe": {"0.05-5": None},
}


@pytest.mark.parametrize("files", SNAPSHOTS.values(), ids=SNAPSHOTS)
def test_snapshots(files: dict[str, Any], workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(workspace / "runs/theirs/first")
    torch.save({"state_dict": {"averaged.network.b": torch.zeros(1)}}, run / "checkpoints/last.ckpt")
    (run / "averages").mkdir()
    for name, state in files.items():
        path = run / f"averages/{name}.safetensors"
        os.mkfifo(path) if state is None else save_file(state or {"a": torch.zeros(1)}, path)
    assert main(["average", str(run), "--std", "0.1"]) == 2
    refused(capsys)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]


def test_a_width_of_zero_is_out_of_range(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(workspace / "runs/theirs/first")
    (run / "averages").mkdir()
    save_file({"a": torch.zeros(1)}, run / "averages/0.05-5.safetensors")
    assert main(["average", str(run), "--std", "0"]) == 2
    refused(capsys, "--std")


TABLES = {
    "no axis": "x,val/a\n1,2\n",
    "a word": "images_seen,val/a\n1,abc\n",
    "no metric": "images_seen,val/a_floor\n1,1\n",
    "empty": "",
    "500 metrics": "images_seen," + ",".join(f"val/{i}" for i in range(500)) + "\n" + ",".join("1" for _ in range(501)) + "\n",
}


@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
def test_tables_that_are_no_curves(text: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(workspace / "runs/theirs/first")
    (run / "metrics.csv").write_text(text)
    assert main(["curves", str(run), "--out", "x.png"]) == 2
    refused(capsys)


@pytest.mark.parametrize("name", ["val/$x^$", f"val/{STEER}"], ids=["formula", "control"])
def test_curves_of_odd_names_and_numbers(name: str, workspace: Path) -> None:
    run = write_run(workspace / "runs/theirs/$x^$")
    (run / "metrics.csv").write_text(f"images_seen,{name}\n1,1e308\n2,-1e308\n3,nan\n4,inf\n")
    assert main(["curves", str(run), "--out", "x.png"]) == 0


def png(path: str, about: PngInfo) -> str:
    Image.new("L", (8, 8)).save(path, pnginfo=about)
    return path


def test_text_of_a_picture_does_not_steer_the_terminal(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = PngInfo()
    about.add_text("Comment", STEER)
    about.add_itxt(STEER, "x\u202ey")
    Image.new("L", (8, 8)).save("x.jpg", comment=f"{STEER}: {STEER}; a: b".encode())
    assert main(["inspect", png("x.png", about), png(f"{STEER.replace('/', '')}.png", about), "x.jpg"]) == 0
    output = capsys.readouterr()
    assert not set("\x1b\x07\u202e") & set(output.out + output.err)
    assert "Comment" in output.out


def test_a_picture_with_thousands_of_texts_is_short(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = PngInfo()
    for i in range(3000):
        about.add_text(f"key {i}", "x" * 1000)
    assert main(["inspect", png("x.png", about)]) == 0
    output = capsys.readouterr().out
    assert "and 2,950 more" in output
    assert len(output) < 50_000


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path), lambda path: path.write_bytes(b"")])
def test_what_is_no_picture(make: Callable[[Path], Any], workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(workspace / "x.png")
    assert main(["inspect", "x.png"]) == 2
    refused(capsys, "x.png")


@pytest.fixture
def server() -> Iterator[tuple[int, list[object]]]:
    """A server on this machine, and who has connected to it."""
    connections: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def listen() -> None:
            while True:
                try:
                    connection, address = listening.accept()
                except OSError:  # closed
                    return
                connections.append(address)
                connection.close()

        threading.Thread(target=listen, daemon=True).start()
        yield listening.getsockname()[1], connections


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_server_that_a_picture_names_is_not_contacted(
    kind: str, server: tuple[int, list[object]], workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """C2PA allows credentials at a URL; its library, a native program that no audit hook sees, fetches them by default."""
    pytest.importorskip("c2pa")
    port, connections = server
    url = f"http://127.0.0.1:{port}/x.c2pa"
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        f'rdf:about="" xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="{url}"/></rdf:RDF></x:xmpmeta>'
    )
    about, path = PngInfo(), Path(f"x.{kind.lower()}")
    about.add_itxt("XML:com.adobe.xmp", xmp)
    Image.new("RGB", (8, 8)).save(path, kind, **({"pnginfo": about} if kind == "PNG" else {"xmp": xmp.encode()}))
    assert read_credentials(path) == url
    assert main(["inspect", str(path)]) == 0
    assert "on a server, which genai does not contact" in capsys.readouterr().out
    assert connections == []


@pytest.mark.parametrize("verb", [["score", "x.npz", "--against", "digits"], ["detect", "x.npz", "--run", "RUN", "--key", "k"]])
def test_arrays_that_are_a_pipe(verb: list[str], workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("x.npz")
    assert main([str(REPOSITORY / "zoo/mnist-gan") if word == "RUN" else word for word in verb]) == 2
    refused(capsys, "x.npz")


def test_arrays_that_unpack_to_more_than_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((1000, 1, 32, 32), np.uint8))
    monkeypatch.setattr("genai.memory.memory_bytes", lambda: 100_000)
    with pytest.raises(UserError, match="GB of memory"):
        open_npz(tmp_path / "x.npz")


def test_a_private_file_is_not_pushed(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zoo entry from elsewhere may have a link to it under the name of a file that is uploaded."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    uploaded = io.StringIO()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: uploaded)
    entry = Path(shutil.copytree(REPOSITORY / "zoo/mnist-gan", workspace / "theirs"))
    (workspace / "private").write_text("secret")
    (entry / "model.onnx").symlink_to(workspace / "private")
    assert main(["push", str(entry), "someone/theirs"]) == 2


@pytest.mark.parametrize(
    "tokenizer",
    [
        None,
        [],
        {},
        {"kind": "characters", "characters": "abc", "has_end": False},
        {"kind": "bytes", "has_end": True},
        {"kind": [1]},
    ],
    ids=str,
)
@pytest.mark.parametrize("verb", [["tokens", "--prompt", "a"], ["sample", "--tokens", "3"]], ids=lambda verb: verb[0])
def test_a_tokenizer_that_does_not_fit_its_model(
    verb: list[str], tokenizer: Any, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = Path(shutil.copytree(REPOSITORY / "zoo/shakespeare-mingru", workspace / "theirs"))
    record = json.loads((entry / "run.json").read_text()) | {"tokenizer": tokenizer}
    (entry / "run.json").write_text(json.dumps(record))
    assert main([verb[0], str(entry), *verb[1:]]) == 2
    refused(capsys, "run.json")
