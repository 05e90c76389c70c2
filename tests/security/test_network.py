"""No verb opens a connection to the outside.

tests/conftest.py records and refuses, with an audit hook, every connection and name look-up of a test that leaves this machine.
Each verb is called by tests in tests/cli, tests/training, tests/runs and others, whose fixture `no_network` checks the record.
"""

import ast
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import genai
from genai.cli.main import find_verbs
from genai.runs import REPOSITORY
from tests.conftest import attempts, is_outside

TESTS = Path(__file__).parents[1]


def test_the_hook_sees_and_refuses_connections() -> None:
    for call in (
        lambda: socket.getaddrinfo("example.org", 443),
        lambda: socket.gethostbyname("example.org"),
        lambda: socket.create_connection(("192.0.2.1", 9), timeout=1),
    ):
        with pytest.raises(OSError, match="tests use no network"):
            call()
    assert len(attempts) == 3
    attempts.clear()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "", None, socket.gethostname(), "0.0.0.0", b"127.0.0.1"])
def test_this_machine_is_not_outside(host: str | bytes | None) -> None:
    assert not is_outside(host)


def test_every_verb_is_called_by_a_test() -> None:
    """A new verb needs a test that runs it, which the hook watches."""
    called = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.List | ast.Tuple | ast.Call):
                parts = node.args if isinstance(node, ast.Call) else node.elts
                called |= {part.value for part in parts[:2] if isinstance(part, ast.Constant) and isinstance(part.value, str)}
    assert set(find_verbs()) - called == set()


def test_reports_of_errors_and_usage_are_off_before_a_library_is_imported() -> None:
    for name in genai.NO_TELEMETRY:
        assert name in os.environ
    code = "import genai, sys, os; print(sorted(set(sys.modules) & {'wandb', 'lightning', 'torch', 'huggingface_hub'}))"
    code += "; print(os.environ['WANDB_ERROR_REPORTING'])"
    environment = {name: value for name, value in os.environ.items() if name not in genai.NO_TELEMETRY}
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout.split() == ["[]", "false"]


def test_a_choice_of_the_user_stays() -> None:
    code = "import genai, os; print(os.environ['WANDB_ERROR_REPORTING'])"
    environment = os.environ | {"WANDB_ERROR_REPORTING": "true"}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "true"


@pytest.mark.slow
@pytest.mark.long
def test_the_tracker_without_a_key_reaches_for_no_server(workspace: Path) -> None:
    """W&B's own process is a native program: its proxy is a socket here that records who connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections: list[object] = []

        def listen() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:  # closed
                    return
                connections.append(address)
                connection.close()

        threading.Thread(target=listen, daemon=True).start()
        proxy = f"http://127.0.0.1:{server.getsockname()[1]}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
        hidden = re.compile(r"WANDB_|(?i:no_proxy)")
        environment = {name: value for name, value in os.environ.items() if not hidden.match(name)}
        environment |= dict.fromkeys(names, proxy) | {"HOME": str(workspace), "PYTHONPATH": str(REPOSITORY)}
        fit = ["fit", "-c", str(REPOSITORY / "configs/digits/gan.yaml"), "--trainer.max_epochs", "1"]
        fit += [
            "--trainer.limit_train_batches",
            "1",
            "--evaluation.every_n_epochs",
            "0",
            "--trainer.enable_progress_bar",
            "false",
        ]
        run = [sys.executable, "-m", "genai", *fit]
        output = subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout
    assert "W&B is offline (no key configured)" in output
    assert connections == []
