"""Sweeps: search spaces, studies that processes share and that survive a kill, pruning, and the command end to end."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from genai import runs
from genai.cli import main
from genai.errors import UserError
from genai.training import launch
from genai.training.callbacks.pruning import ReportScores
from genai.training.search import Parameter, as_options, read_space, short_names, space_path
from genai.training.study import Study, StudySettings, state_of

SPACE = {"x": Parameter(0.0, 1.0), "n": Parameter(1, 64, log=True), "c": Parameter(choices=("a", True, None))}
SETTINGS = StudySettings(("digits/gan",), SPACE, ("--trainer.max_epochs", "2"))
QUICK = [
    "--tracker",
    "none",
    "--trainer.limit_train_batches",
    "2",
    "--gallery.every_n_epochs",
    "0",
    "--trainer.precision",
    "32",
]
QUICK += ["--evaluation.every_n_epochs", "1", "--evaluation.num_samples", "60"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x: {low: 2, high: 1}", "low below high"),
        ("x: {low: 0, high: 1, log: true}", "above 0 with `log`"),
        ("x: {low: a, high: b}", "use numbers"),
        ("x: {low: 1}", "has no range for x"),
        ("x: {choices: []}", "has no range for x"),
        ("x: 3", "has no range for x"),
        ("- x", "is not a search space"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_space(path)


def test_a_bound_may_be_written_without_a_dot(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("x: {low: 1e-4, high: 1E-2, log: true}\n")
    assert read_space(path) == {"x": Parameter(1e-4, 1e-2, log=True)}


def test_every_shipped_space_can_be_read() -> None:
    folder = Path(__file__).parents[2] / "configs/sweeps"
    found = [path for path in folder.glob("*.yaml") if not path.name.startswith("wandb-")]
    assert found
    assert all(read_space(path) for path in found)
    assert space_path(None, Path("configs/digits/gan.yaml")) == space_path("sweeps/gan", Path("x.yaml"))
    with pytest.raises(UserError, match=r"sweeps/ngram.*there: .*sweeps/gan"):
        space_path(None, Path("configs/pydocs/ngram.yaml"))


def test_values_become_options_and_short_names() -> None:
    values = {"a.b": 0.5, "c": "genai.X", "d": True, "e": None, "f": "[1, 2]"}
    assert as_options(values) == ["--a.b=0.5", "--c=genai.X", "--d=true", "--e=null", "--f=[1, 2]"]
    names = [f"model.init_args.{network}_optimizer.init_args.lr" for network in ("generator", "discriminator")]
    assert list(short_names([*names, "data.init_args.batch_size"]).values()) == [
        "generator lr",
        "discriminator lr",
        "batch_size",
    ]


WORKER = """
import os, signal, sys
from genai.training.search import Parameter
from genai.training.study import StudySettings, Study
settings = StudySettings(("digits/gan",), {"x": Parameter(0.0, 1.0)}, ())
study = Study("shared", settings, "val/fid")
while found := study.next(int(sys.argv[1]), settings.space):
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    trial, values, lock = found
    trial.report(values["x"], 1)
    study.finish(trial, lock, values["x"], False)
"""


def start(*arguments: str) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-c", WORKER, *arguments], env=environment)


@pytest.mark.slow
@pytest.mark.long
def test_processes_share_a_study_and_a_kill_leaves_no_running_trial(workspace: Path) -> None:
    killed = start("6", "die")
    assert killed.wait() == -signal.SIGKILL
    study = Study("shared", None)
    assert [trial.state.name for trial in study.trials()] == ["RUNNING"]
    assert study.num_running() == 0
    workers = [start("6", "work"), start("6", "work")]
    assert [worker.wait() for worker in workers] == [0, 0]
    trials = study.trials()
    assert [trial.number for trial in trials] == list(range(7))  # the killed one does not count
    assert [state_of(trial) for trial in trials] == ["killed", *["complete"] * 6]
    assert len({trial.params["x"] for trial in trials[1:]}) == 6
    assert study.next(6, SPACE) is None
    assert not list(study.folder.glob("trial-*.lock"))


def test_a_trial_of_a_living_process_is_left_alone(workspace: Path) -> None:
    study = Study("alive", SETTINGS)
    first = study.next(9, SPACE)
    assert first is not None
    other = study.next(9, SPACE)
    assert other is not None
    assert (first[0].number, other[0].number) == (0, 1)
    assert study.num_running() == 2
    study.finish(first[0], first[2], None, False, "diverged")
    study.finish(other[0], other[2], math.nan, False, "diverged")
    assert [state_of(trial) for trial in study.trials()] == ["failed", "failed"]
    assert study.best() is None


def test_another_question_needs_another_study(workspace: Path) -> None:
    Study("mine", SETTINGS)
    for settings, words in (
        (StudySettings(("digits/cgan",), SPACE, SETTINGS.options), "another preset"),
        (StudySettings(SETTINGS.configs, SPACE | {"x": Parameter(0.0, 2.0)}, SETTINGS.options), "another search space"),
        (StudySettings(SETTINGS.configs, SPACE, ()), "other options"),
    ):
        with pytest.raises(UserError, match=words):
            Study("mine", settings)
    Path("runs/bad-trials").mkdir()
    Path("runs/bad-trials/study.db").write_text("no database " * 100)
    with pytest.raises(UserError, match="choose another --study"):
        Study("bad", SETTINGS)


def test_a_new_study_is_not_called_like_an_experiment(workspace: Path) -> None:
    run = runs.create("digits-gan").path
    Study("digits-gan", SETTINGS)  # a fit that failed has left an empty folder
    for name in ("run.json", "config.yaml"):
        (run / name).write_text("")
    Study("digits-gan", SETTINGS)  # the seeds of its best trial
    (run.parent).rename("runs/digits-cgan")
    with pytest.raises(UserError, match="runs/digits-cgan has runs already"):
        Study("digits-cgan", SETTINGS)
    assert not Path("runs/digits-cgan-trials").exists()


class Trial:
    """Prunes after its first score."""

    def __init__(self) -> None:
        self.reported: list[tuple[float, int]] = []

    def report(self, value: float, step: int) -> None:
        self.reported.append((value, step))

    def should_prune(self) -> bool:
        return True


@pytest.mark.slow
def test_a_pruned_fit_ends_with_its_epoch_like_any_fit(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = Trial()
    report = ReportScores(trial, "val/fid", 2)
    run_dir = launch.run(
        "fit", ["-c", "digits/gan", *QUICK, "--evaluation.every_n_epochs", "2", "--trainer.max_epochs", "6"], [report]
    )
    assert run_dir is not None
    scores = runs.Run(run_dir).scores()
    assert report.is_pruned
    assert trial.reported == [(pytest.approx(scores["val"]["scores"]["fid"]), 2)]
    assert scores["cost"]["seconds"] > 0
    assert (run_dir / "checkpoints/best.ckpt").is_file()


@pytest.mark.slow
def test_a_sweep_from_the_first_trial_to_the_seeds(workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("space.yaml").write_text("model.init_args.ema_halflife_kimg: {low: 0.1, high: 1.0, log: true}\n")
    sweep = ["sweep", "-c", "digits/gan", "--study", "tiny", "--space", "space.yaml", *QUICK, "--trainer.max_epochs", "1"]
    assert main([*sweep, "--trials", "1", "--seeds", "0"]) == 0
    assert main([*sweep, "--trials", "2", "--seeds", "2"]) == 0
    output = capfd.readouterr()
    lines = output.out.splitlines()
    assert [line.split(":")[0] for line in lines if ": val/fid" in line and line.startswith("trial")] == ["trial 0", "trial 1"]
    assert "best trial with seed 2" in output.out
    assert any(line.startswith("FID") and "±" in line for line in lines)
    assert "Traceback" not in output.err
    trials = [run for run in runs.all_runs() if run.path.parent.name == "tiny-trials"]
    assert len(trials) == 2
    assert not any("test" in run.scores() for run in trials)  # the test split chooses nothing
    winners = [run for run in runs.all_runs() if run.path.parent.name == "tiny"]
    assert sorted(run.record()["seed"] for run in winners) == [1, 2]
    best = min(trials, key=lambda run: run.scores()["val"]["scores"]["fid"])
    halflife = best.config()["model"]["init_args"]["ema_halflife_kimg"]
    assert {run.config()["model"]["init_args"]["ema_halflife_kimg"] for run in winners} == {halflife}
    command = winners[0].record()["command"]
    assert command.startswith("genai fit -c ")
    assert f"ema_halflife_kimg={json.dumps(halflife)}" in command
    refuse_in_one_line(sweep, capfd)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    "preset",
    ["digits/vae", "digits/vqvae", "digits/diffusion", "pydocs/gpt"],
)
def test_the_space_of_every_family_gives_two_trials(preset: str, workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quick = [
        *QUICK[:6],
        "--evaluation.every_n_epochs",
        "1",
        "--evaluation.num_samples",
        "20",
        "--trainer.limit_val_batches",
        "2",
    ]
    quick += ["--trainer.max_epochs", "1"]
    if preset == "pydocs/gpt":
        quick = ["--tracker", "none", "--trainer.max_steps", "4", "--trainer.val_check_interval", "2"]
        quick += ["--trainer.limit_val_batches", "2"]
    assert main(["sweep", "-c", preset, "--study", "two", "--trials", "2", "--seeds", "0", *quick]) == 0
    output = capfd.readouterr().out
    study = Study("two", None)
    assert [state_of(trial) for trial in study.trials()] == ["complete", "complete"]
    values = [trial.params for trial in study.trials()]
    assert values[0].keys() == values[1].keys() == read_space(space_path(None, Path(f"{preset}.yaml"))).keys()
    assert values[0] != values[1]
    if preset == "pydocs/gpt":
        assert [list(trial.intermediate_values) for trial in study.trials()] == [[1, 2], [1, 2]]
        assert "at validation" in output


def refuse_in_one_line(sweep: Sequence[str], capfd: pytest.CaptureFixture[str]) -> None:
    """Mistakes on the command line, which write nothing."""
    before = sorted(Path("runs").rglob("*"))
    for words, message in (
        (["-c", "digits/cgan"], "another preset"),
        (["--study", "a/b"], "is not a valid name"),
        (["--seeds", "1"], "use 2 or more"),
        (["--seed_everything", "1"], "is chosen by the sweep"),
        (["--evaluation.every_n_epochs", "0", "--study", "new"], "no epoch of a trial would be scored"),
        (["--trainer.max_epochz", "3", "--study", "new"], "did you mean `trainer.max_epochs`"),
        (["--space", "nowhere.yaml"], "there is no search space nowhere.yaml"),
        (["--best", "--study", "nowhere"], "there is no study nowhere"),
    ):
        assert main([*sweep, *words]) == 2
        error = capfd.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert sorted(Path("runs").rglob("*")) == before
