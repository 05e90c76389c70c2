"""A metric is declared once and appears everywhere: the table, the JSON, loggers, `genai runs`, the leaderboard."""

import json
import re
import sys

import pytest
import torch

import genai.metrics
from genai.cli import main
from genai.metrics import registry
from genai.metrics.evaluation import Evaluator
from genai.metrics.features import extract, load_extractor
from genai.metrics.protocol import Comparison
from genai.metrics.registry import Estimate, all_metrics, compute_scores, metric
from genai.report.leaderboard import leaderboard
from genai.runs import REPOSITORY
from tests.metrics.helpers import FakeData, random_features, random_images, write_network

TOY = '''
"""A toy metric."""

from genai.metrics.protocol import Comparison
from genai.metrics.registry import Estimate, metric


@metric(title="Toy distance", better="lower", format=".2f", paper="none", scale=10)
def toy_distance(sets: Comparison) -> Estimate:
    """The number of samples, as a fraction of 1000."""
    return Estimate(len(sets.generated.pool) / 1000, 0.001)
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A module in the folder of metrics, and nothing else."""
    all_metrics()  # before the copy: a module registers its metrics when it is imported, once
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "toys").mkdir()
    (tmp_path / "toys/toy_metric.py").write_text(TOY)
    monkeypatch.setattr(genai.metrics, "__path__", [*genai.metrics.__path__, str(tmp_path / "toys")])
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))
    yield
    sys.modules.pop("genai.metrics.toy_metric", None)
    vars(genai.metrics).pop("toy_metric", None)


def evaluate(tmp_path):
    network = load_extractor(str(write_network(tmp_path / "small.safetensors")))
    return Evaluator.of(FakeData(), "test", network, 50).measure(extract(network, [random_images(50, seed=7)]))


@pytest.mark.usefixtures("toy")
def test_a_new_metric_appears_in_the_table_the_json_and_the_loggers(tmp_path):
    result = evaluate(tmp_path)
    assert re.search(r"Toy distance x10 ↓ +0.50 ± 0.01 +0.50 ± 0.01", str(result))
    assert json.loads(json.dumps(result.to_dict()))["scores"]["toy_distance"] == 0.05
    assert result.to_dict()["floor"]["toy_distance_std"] == 0.001
    assert result.metrics()["toy_distance"] == result.metrics()["toy_distance_floor"] == 0.05


@pytest.mark.usefixtures("toy")
def test_a_new_metric_appears_in_genai_runs_and_the_leaderboard(tmp_path, capsys):
    for name in ("runs/toys/one", "zoo/toy"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for file in ("run.json", "config.yaml"):
            (folder / file).write_bytes((REPOSITORY / "zoo/mnist-gan" / file).read_bytes())
        test = evaluate(tmp_path).to_dict() | {"images_seen": 1234, "parameters": {"generator": 5000}, "overrides": []}
        (folder / "metrics.json").write_text(json.dumps({"test": test}))
    assert main(["runs", str(tmp_path / "runs"), "--all-metrics"]) == 0
    heading, *rows = capsys.readouterr().out.split("toy_distance x10")
    assert heading.startswith("run")
    assert "toys/one" in rows[0]
    assert "0.50" in rows[0]
    page = leaderboard(tmp_path / "zoo")
    assert "| Toy distance x10 ↓ |" in page
    assert "| 0.50 ± 0.01 |" in page


def test_without_the_module_the_metric_is_gone(tmp_path):
    assert "toy_distance" not in {declared.name for declared in all_metrics()}


def test_every_metric_is_declared_in_full():
    declared = all_metrics()
    assert [d.name for d in declared[:5]] == ["fid", "kid", "inception_score", "precision", "recall"]
    for d in declared:
        assert d.compute.__doc__
        assert d.paper.startswith("arXiv:") or d.name == "haze"
        assert d.text({d.name: 3.0})
        assert d.text({}) == ""


@pytest.fixture
def own(monkeypatch):
    all_metrics()
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))


@pytest.mark.usefixtures("own")
def test_a_metric_that_does_not_apply_is_left_out(tmp_path):
    @metric(title="Never", better="higher", format="d", paper="none")
    def never(sets: Comparison) -> None:
        return None

    @metric(title="Count", better="higher", format="d", paper="none")
    def count(sets: Comparison) -> int:
        return len(sets.generated.pool)

    network = load_extractor(str(write_network(tmp_path / "small.safetensors")))
    evaluator = Evaluator.of(FakeData(), "test", network, 50)
    sets = Comparison(random_features(50, 6, 0, classes=3), evaluator.reference, None, network, evaluator.protocol)
    scores = compute_scores(sets)
    assert "never" not in scores
    assert scores["count"] == 50
    assert next(d for d in all_metrics() if d.name == "count").text(scores) == "50"
    assert isinstance(Estimate(1.0, 0.5).std, float)
    assert torch.isfinite(torch.tensor(list(scores.values()))).all()


def test_a_mean_of_counts_has_decimals() -> None:
    (modes,) = (metric for metric in all_metrics() if metric.title == "Modes")
    assert modes.text({modes.name: 10.0}) == "10"
    assert modes.text({modes.name: 9.8, f"{modes.name}_std": 0.45}, with_std=True) == "9.8 ± 0.45"
