import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import redirect_stdout
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import wandb
import yaml

from genai import runs
from genai.cli import main
from genai.data.words import labels_in_words
from genai.training.loggers import MetricsCSV, is_reached, wandb_mode
from tests.cli.test_cli import QUICK


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_rows_are_keyed_by_images_seen(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"train/loss": 2.0}, step=64)
    logger.log_metrics({"val/fid": 9.0}, step=64)
    logger.log_metrics({"train/loss": 1.0}, step=128)
    logger.write()
    assert read(tmp_path / "metrics.csv") == [
        {"images_seen": "64", "train/loss": "2.0", "val/fid": "9.0"},
        {"images_seen": "128", "train/loss": "1.0", "val/fid": ""},
    ]


def test_csv_goes_on_where_the_checkpoint_was(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    for step in (64, 128, 192):
        logger.log_metrics({"train/loss": float(step)}, step=step)
    logger.write()
    resumed = MetricsCSV(tmp_path)
    resumed.forget_after(128)
    resumed.log_metrics({"train/loss": 7.0}, step=192)
    resumed.write()
    assert [row["train/loss"] for row in read(tmp_path / "metrics.csv")] == ["64.0", "128.0", "7.0"]


MODE = """
import os
from genai.training.loggers import wandb_mode
for with_key in (False, True):  # each in a fork: W&B reads its settings once in a process
    if os.fork() == 0:
        os.environ |= {"WANDB_API_KEY": 40 * "0", "WANDB_BASE_URL": "http://127.0.0.1:9"} if with_key else {}
        print(*wandb_mode(), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize("has_key", [False, True])
def test_mode_is_offline_without_a_key_or_without_a_server(has_key: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb, "login", lambda prompt, verify: has_key)
    monkeypatch.setattr(wandb, "setup", lambda: SimpleNamespace(settings=SimpleNamespace(base_url="http://127.0.0.1:9")))
    assert wandb_mode() == ("offline", "http://127.0.0.1:9 is not reached" if has_key else "no key configured")


@pytest.mark.slow
@pytest.mark.long
def test_mode_is_offline_without_a_key_or_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    output = subprocess.run([sys.executable, "-c", MODE], capture_output=True, text=True, check=True)
    assert output.stdout.splitlines() == ["offline no key configured", "offline http://127.0.0.1:9 is not reached"]
    assert "Traceback" not in output.stderr


def test_a_mode_in_the_environment_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode()[0] == "disabled"


def test_a_server_is_reached_whatever_it_answers() -> None:
    class NotFound(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            """Nothing is printed."""

    server = HTTPServer(("127.0.0.1", 0), NotFound)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    assert is_reached(f"http://127.0.0.1:{server.server_port}")
    thread.join()
    server.server_close()
    assert not is_reached(f"http://127.0.0.1:{server.server_port}")


@pytest.fixture(scope="module")
def offline_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[runs.Run, str, wandb.Run]:
    """A run of one epoch that W&B recorded offline, with options and variables of W&B; what the fit printed; W&B's run."""
    options = [option for option in QUICK if option not in ("--tracker", "none")]
    fit = ["fit", "-c", "digits/cgan", *options, "--trainer.max_epochs", "1", "--evaluation.num_samples", "100"]
    fit += ["--evaluation.every_n_epochs", "1", "--trainer.limit_train_batches", "3", "--gallery.num", "12"]
    fit += ["--wandb.project", "thesis", "--wandb.tags", "[first, small]", "--wandb.name", "a name"]
    printed, started = io.StringIO(), []
    init = wandb.init

    def recorded(**options: Any) -> wandb.Run:
        started.append(init(**options))
        return started[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("wandb"))
        patch.setenv("GENAI_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.setenv("WANDB_PROJECT", "not this one")
        patch.setenv("WANDB_RUN_GROUP", "seeds")
        patch.setenv("WANDB_NOTES", "what was tried")
        patch.setattr(wandb, "init", recorded)
        with redirect_stdout(printed):
            assert main(fit) == 0
        run = runs.find("digits-cgan")
    return run, printed.getvalue(), started[0]


def wandb_folder(run: runs.Run) -> Path:
    return next(run.path.glob("logs/wandb/offline-run-*"))


@pytest.mark.slow
def test_an_offline_wandb_run_holds_scores_config_and_pictures(offline_run: tuple[runs.Run, str, wandb.Run]) -> None:
    run, printed, _ = offline_run
    assert "wandb sync" in printed
    folder = wandb_folder(run)
    assert run.record()["tracker_id"] in folder.name
    program = shutil.which("wandb", path=str(Path(sys.executable).parent))
    assert program is not None
    inspect = [program, "leet", "inspect", "--summary", str(next(folder.glob("*.wandb")))]
    summary = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout
    assert "val/fid" in summary
    assert "ema_halflife_kimg" in summary
    assert b"epoch 1, 192 images, seed 0" in next(folder.glob("*.wandb")).read_bytes()  # the caption of the grid
    assert list(folder.glob("files/media/images/samples_*.png"))


@pytest.mark.slow
def test_options_of_wandb_win_over_its_variables(offline_run: tuple[runs.Run, str, wandb.Run]) -> None:
    run = offline_run[2]
    assert (run.project, run.name, list(run.tags or ())) == ("thesis", "a name", ["first", "small"])
    assert (run.group, run.notes) == ("seeds", "what was tried")


@pytest.mark.slow
def test_the_last_samples_are_a_table_with_captions(offline_run: tuple[runs.Run, str, wandb.Run]) -> None:
    (path,) = wandb_folder(offline_run[0]).glob("files/media/table/samples_table_*.json")
    table = json.loads(path.read_text())
    assert table["columns"] == ["image", "caption", "index"]
    assert [row[1] for row in table["data"]] == [str(i % 10) for i in range(12)]
    content = next(wandb_folder(offline_run[0]).glob("*.wandb")).read_bytes()  # the images are an artifact of the run
    assert b"-samples_table" in content
    assert len(set(re.findall(rb"media/images/[0-9a-f]{20}\.png", content))) == 12


@pytest.mark.slow
def test_a_report_is_shown_in_the_wandb_run(
    offline_run: tuple[runs.Run, str, wandb.Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, path = offline_run[0], tmp_path / "report.html"
    before = set(run.path.glob("logs/wandb/offline-run-*"))
    assert main(["report", str(run.path), "--num", "4", "--out", str(path), "--wandb"]) == 0
    assert "wandb sync" in capsys.readouterr().out
    (folder,) = set(run.path.glob("logs/wandb/offline-run-*")) - before
    assert run.record()["tracker_id"] in folder.name
    (shown,) = folder.glob("files/media/html/report_*.html")
    assert shown.read_text() == path.read_text()
    assert main(["report", "zoo/digits-diffusion", "--out", str(tmp_path / "x.html"), "--wandb"]) == 2
    assert "has no W&B run" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()


def test_captions_name_what_a_sample_is_conditioned_on() -> None:
    names = ["", "?", "red", "hat"]
    assert labels_in_words(torch.tensor([2, 3, 9]), names) == ["red", "hat", "9"]
    assert labels_in_words(torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]), names) == ["red, hat", ""]
    assert labels_in_words(torch.tensor([[2, 3, 0]]), names) == ["red hat"]


SWEEPS = sorted((Path(__file__).parents[2] / "configs/sweeps").glob("wandb-*.yaml"))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_command_of_a_wandb_sweep_runs(path: Path, workspace: Path) -> None:
    """As the agent of W&B expands it: one `--name=value` for each parameter."""
    sweep = yaml.safe_load(path.read_text())
    assert sweep["metric"] == {"name": "val/fid", "goal": "minimize"}
    values = {name: p["values"][0] if "values" in p else p["min"] for name, p in sweep["parameters"].items()}
    macros = {
        "${env}": ["/usr/bin/env"],
        "${interpreter}": [sys.executable],
        "${program}": [sweep["program"]],
        "${args}": [f"--{name}={value}" for name, value in values.items()],
    }
    command = [part for word in sweep["command"] for part in macros.get(word, [word])]
    quick = ["--trainer.fast_dev_run", "1", "--trainer.enable_progress_bar", "false", "--tracker", "none"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([*command, *quick], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
