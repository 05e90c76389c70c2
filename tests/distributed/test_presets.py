"""Every preset of small data trains in two processes: a parameter without a gradient would stop DDP at the second step.

`tests/test_configs.py` looks for such parameters in the presets of the other data.
"""

from pathlib import Path

import pytest

from tests.distributed.test_equal import ROOT, torchrun
from tests.families import QUIET

CONFIGS = sorted(path for folder in ("digits", "pydocs") for path in (ROOT / "configs" / folder).glob("*.yaml"))
SHORT = ["--trainer.fast_dev_run", "2", "--data.init_args.batch_size", "8", "--evaluation.every_n_epochs", "0"]


@pytest.mark.slow
@pytest.mark.long
def test_every_preset_of_small_data_trains_in_two_processes(tmp_path: Path) -> None:
    jobs = {
        f"{path.parent.name}-{path.stem}": {"arguments": ["fit", "-c", str(path), *QUIET, *SHORT], "prepare": []}
        for path in CONFIGS
    }
    assert len(jobs) >= 25
    for rank in torchrun(tmp_path, jobs):
        assert {name: result["status"] for name, result in rank.items()} == dict.fromkeys(jobs, 0)
