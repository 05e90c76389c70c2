import csv
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from genai import runs
from genai.cli import main
from genai.training.loggers import MetricsCSV, is_reached, wandb_mode
from tests.cli.test_cli import DIGITS, QUICK


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_an_offline_wandb_run_holds_scores_config_and_pictures(workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = [option for option in QUICK if option not in ("--tracker", "none")]
    fit = ["fit", "-c", DIGITS, *options, "--trainer.max_epochs", "1", "--evaluation.num_samples", "100"]
    assert main([*fit, "--evaluation.every_n_epochs", "1", "--trainer.limit_train_batches", "3"]) == 0
    assert "wandb sync" in "".join(capfd.readouterr())
    run = runs.find("digits-gan")
    folder = next(run.path.glob("logs/wandb/offline-run-*"))
    assert run.record()["tracker_id"] in folder.name
    wandb = shutil.which("wandb", path=str(Path(sys.executable).parent))
    assert wandb is not None
    inspect = [wandb, "leet", "inspect", "--summary", str(next(folder.glob("*.wandb")))]
    summary = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout
    assert "val/fid" in summary
    assert "ema_halflife_kimg" in summary
    assert list(folder.glob("files/media/images/samples_*.png"))
