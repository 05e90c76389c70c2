"""genai compare: groups of seeds with mean, spread and Welch's test; unlike protocols are refused."""

import csv
import io
import json
from pathlib import Path
from statistics import fmean, stdev

import pytest
from scipy.stats import ttest_ind

from genai.cli import main
from genai.cli.options.run import LoadedRun
from genai.errors import UserError
from genai.report.comparison import check_protocols, find_group, find_groups, note_other_checkpoint, welch
from genai.runs import Run, find
from genai.shipped import ZOO

FIDS = {"one": (3.0, 3.2, 3.1), "two": (2.0, 2.5, 2.2)}


@pytest.fixture
def runs(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two experiments with three seeds each, from one zoo entry."""
    for experiment, fids in FIDS.items():
        for seed, fid in enumerate(fids):
            write(workspace / f"runs/{experiment}/run-{seed}", seed, fid)
    return workspace / "runs"


def write(folder: Path, seed: int, fid: float, **protocol: object) -> None:
    """A run that has scores and no checkpoint."""
    source = ZOO / "digits-diffusion"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_bytes((source / "config.yaml").read_bytes())
    (folder / "run.json").write_text(json.dumps(json.loads((source / "run.json").read_text()) | {"seed": seed}))
    metrics = json.loads((source / "metrics.json").read_text())
    metrics["test"]["scores"]["fid"] = fid
    metrics["test"]["protocol"] |= {"seed": seed, **protocol}
    metrics["cost"] = {"seconds": 60.0 * (seed + 1)}
    (folder / "metrics.json").write_text(json.dumps(metrics))


def test_a_group_has_the_newest_run_of_each_seed(runs: Path) -> None:
    write(runs / "one/run-newer", 2, 9.0)
    assert find_group("one@seeds").values("fid") == [3.0, 3.2, 9.0]
    write(runs / "lonely/run", 0, 1.0)
    with pytest.raises(UserError, match="test scores of 1 seeds"):
        find_group("lonely@seeds")


def test_a_group_of_other_settings_is_noted(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "one@seeds", "--csv"]) == 0
    assert capsys.readouterr().err == ""
    config = runs / "one/run-2/config.yaml"
    config.write_text(
        config.read_text().replace("max_epochs: 140", "max_epochs: 2").replace("num_workers: 0", "num_workers: 1")
    )
    assert main(["compare", "one@seeds", "--csv"]) == 0
    error = capsys.readouterr().err
    assert "one@seeds differ in more than the seed (trainer.max_epochs 140 and 2)" in error


def test_a_run_without_scores_is_named(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "two/run-2/metrics.json").unlink()
    assert main(["compare", "runs/one/run-0", "runs/two/run-2", "--csv"]) == 0
    assert "`genai test runs/two/run-2`" in capsys.readouterr().err


def test_mean_spread_and_test_are_those_of_scipy(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "one@seeds", "two@seeds", "--csv"]) == 0
    rows = {(row["metric"], row["group"]): row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    for name, fids in FIDS.items():
        row = rows["fid", f"{name}@seeds"]
        assert (float(row["mean"]), float(row["std"]), int(row["runs"])) == (fmean(fids), stdev(fids), 3)
    assert float(rows["fid", "two@seeds"]["p"]) == pytest.approx(ttest_ind(*FIDS.values(), equal_var=False).pvalue)
    assert rows["fid", "one@seeds"]["p"] == ""
    assert rows["kid", "two@seeds"]["p"] == ""  # no spread at all


def test_json_has_null_for_what_is_no_number(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = runs / "two/run-2/metrics.json"
    metrics = json.loads(path.read_text())
    metrics["test"]["scores"]["fid"] = float("nan")
    path.write_text(json.dumps(metrics))
    assert main(["compare", "one@seeds", "two@seeds", "--json"]) == 0
    content = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    fid = next(row for row in content["metrics"] if row["metric"] == "fid")
    assert fid["groups"]["two@seeds"]["mean"] is None
    assert fid["groups"]["one@seeds"]["mean"] > 0


def test_markdown_and_json_say_the_same(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "one@seeds", "two", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| test split | one@seeds | two |"
    assert lines[2].startswith("| FID ↓ | 3.100 ± 0.1000 (")
    assert "| training, min | 2.0 | 3.0 |" in lines
    assert main(["compare", "one@seeds", "two", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["metrics"][0]["groups"]["one@seeds"]["mean"] == pytest.approx(3.1)
    two = content["metrics"][0]["groups"]["two"]
    assert two.pop("floor") == pytest.approx(0.3531, abs=1e-4)
    assert two == {"runs": 1, "mean": 2.2, "std": None, "p": None}


def test_unlike_protocols_are_refused_and_other_seeds_are_not(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_protocols(find_groups(["one@seeds", "two@seeds"]))
    write(runs / "few/run", 0, 1.0, num_samples=50)
    assert main(["compare", "one", "few", "--csv"]) == 2
    assert "num_samples 1097 and 50" in capsys.readouterr().err


def test_two_runs_of_an_experiment_have_their_full_names(runs: Path) -> None:
    assert [group.name for group in find_groups(["one/run-0", "one/run-1", "two"])] == ["one/run-0", "one/run-1", "two"]


def test_runs_of_one_name_in_two_folders_are_two(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(runs.parent / "elsewhere/one/run-0", 0, 9.0)
    assert main(["compare", "one/run-0", "elsewhere/one/run-0", "--csv"]) == 0
    rows = [row for row in csv.DictReader(io.StringIO(capsys.readouterr().out)) if row["metric"] == "fid"]
    assert [float(row["mean"]) for row in rows] == [3.0, 9.0]
    assert rows[1]["group"] == "elsewhere/one/run-0"
    assert main(["compare", "one/run-0", "runs/one/run-0", "--csv"]) == 2
    assert "named twice" in capsys.readouterr().err


def test_the_run_in_the_current_folder_has_its_name(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs / "one/run-0")
    assert [group.name for group in find_groups(["."])] == ["one"]
    assert main(["runs", "."]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "one/run-0"
    monkeypatch.chdir(runs / "one")
    assert find("run-0").name == "one/run-0"


def test_no_test_without_a_spread() -> None:
    assert welch([1.0], [2.0, 3.0]) is None
    assert welch([1.0, 1.0], [2.0, 2.0]) is None
    assert welch([1.0, 1.1, 0.9], [5.0, 5.1, 4.9]) < 0.001  # type: ignore[operator]


def test_a_score_that_is_no_number_has_no_spread(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(runs / "three/run-0", 0, float("inf"))
    write(runs / "three/run-1", 1, 1.0)
    assert main(["compare", "one@seeds", "three@seeds", "--csv"]) == 0
    rows = {(row["metric"], row["group"]): row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert [rows["fid", "three@seeds"][key] for key in ("mean", "std", "p")] == ["inf", "nan", "nan"]


def test_runs_lists_data_features_seed_and_minutes(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "one"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:7] == ["run", "kimg", "fid", "data", "features", "seed", "minutes"]
    assert lines[3].split()[0] == "one/run-2"
    assert lines[3].split()[2:7] == ["3.100", "digits", "digits", "2", "3.0"]


def test_samples_of_another_checkpoint_than_the_scores_are_noted(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(ZOO / "digits-diffusion")
    note_other_checkpoint(run, {"images_seen": 7_000}, 7_000)
    note_other_checkpoint(run, {}, 7_000)
    assert capsys.readouterr().err == ""
    note_other_checkpoint(run, {"images_seen": 7_000}, 9_000)
    assert "after 7,000 images, its samples come from one after 9,000" in capsys.readouterr().err


def test_text_models_are_compared_without_a_picture(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    assert main(["compare", "zoo/shakespeare-gpt", "zoo/shakespeare-mingru"]) == 0
    out = capsys.readouterr().out
    assert "nats per token" in out
    assert "tokens seen" in out
    assert "(2.007)" in out
    assert "(1.954)" in out  # each has its own: the floor of text is measured with the model
    assert "wrote" not in out
    assert not list(workspace.rglob("*.png"))


def test_without_the_data_there_are_scores_and_samples(
    capsys: pytest.CaptureFixture[str], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(source: LoadedRun) -> None:
        raise UserError("MNIST is not here")

    monkeypatch.setattr(LoadedRun, "test_split", absent)
    assert main(["compare", "zoo/mnist-gan", "zoo/mnist-cr3gan", "--num", "4", "--out", "two.png"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "genai: two.png has no real images: MNIST is not here\n"
    assert "FID" in printed.out
    assert Path("two.png").is_file()
