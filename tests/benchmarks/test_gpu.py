"""benchmarks/gpu.py runs for two steps on a processor, and writes what it measures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/gpu.py"


@pytest.mark.slow
@pytest.mark.long
def test_two_steps_on_a_processor(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [
        sys.executable,
        str(SCRIPT),
        "--device",
        "cpu",
        "--steps",
        "2",
        "--eager",
        "--preset",
        "mnist/gan",
        "--out",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (case,) = json.loads(out.read_text())["cases"]
    assert case["ratio"] > 0
    assert case["busy"] is None
    assert "mnist/gan" in done.stdout
