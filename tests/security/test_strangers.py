"""More of what a stranger's files may hold: text that steers a terminal, sizes without end, options of a study."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest

import genai
from genai.cli import main
from genai.cli.verbs.tokens import quoted
from genai.data import ClassFolder
from genai.errors import DamagedFileError, UserError
from genai.metrics.features.trained import read_names
from genai.runs import REPOSITORY, Run, find
from genai.runs.sampling import label_examples
from genai.runs.yaml_files import parse_yaml
from genai.terminal import all_visible, visible
from tests.families import family
from tests.security.test_execution import write_run

TITLE = "\x1b]0;owned\x07"  # sets a terminal's title


@pytest.mark.parametrize("text", [TITLE, "\x9b31m", "a\rb", "\x7f", "\u202etxt.exe", "\u2066x", "\x00"], ids=repr)
def test_text_that_steers_a_terminal_is_shown_as_text(text: str) -> None:
    assert "\ufffd" in visible(text)
    assert all_visible({text: [text, 1, None]}) == {visible(text): [visible(text), 1, None]}
    assert "\ufffd" in quoted(text)


@pytest.mark.parametrize("text", ["", "a\tb\nc", "é 漢 🙂 \u200d", "[bold]x[/bold]"])
def test_other_text_stays(text: str) -> None:
    assert visible(text) == text


def test_names_in_a_run_do_not_steer_the_terminal(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(workspace / "runs/theirs" / TITLE)
    record = json.loads((run / "run.json").read_text()) | {"data": TITLE, "class_names": [TITLE] * 10}
    (run / "run.json").write_text(json.dumps(record))
    assert Run(run).record()["class_names"] == [visible(TITLE)] * 10
    assert main(["runs", "theirs"]) == 0
    assert main(["sample", "theirs"]) == 2
    assert main(["sample", str(run)]) == 2
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    with pytest.raises(UserError, match="rename its folder"):
        find("theirs")


def test_a_tokenizer_keeps_its_characters(workspace: Path) -> None:
    """It would encode other text otherwise."""
    run = write_run(workspace / "runs/theirs/first")
    record = json.loads((run / "run.json").read_text()) | {"tokenizer": {"characters": ["\x1b", "\x0c"]}}
    (run / "run.json").write_text(json.dumps(record))
    assert Run(run).record()["tokenizer"] == {"characters": ["\x1b", "\x0c"]}


@pytest.mark.parametrize("text", ['a: "\\e]0;x"', '"\\u202e": 1', 'a: ["\\x9b"]'])
def test_a_config_has_no_control_characters(text: str) -> None:
    with pytest.raises(DamagedFileError, match="config"):
        parse_yaml(text, "config.yaml")


def test_classes_have_no_control_characters(tmp_path: Path) -> None:
    for name in ("cat", TITLE.replace("/", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
    with pytest.raises(UserError, match="control character"):
        ClassFolder(str(tmp_path))


@pytest.mark.parametrize("text", ["{}", "3", "[1]", '["a", null]', '"ab"'])
def test_names_of_a_feature_network_are_a_list_of_texts(text: str) -> None:
    with pytest.raises(ValueError, match="no list of names"):
        read_names(text)
    assert read_names(json.dumps([TITLE])) == (visible(TITLE),)


@pytest.mark.parametrize(
    "change",
    [
        {"generator": {"class_path": "genai.networks.mlp.MLPGenerator", "init_args": {"hidden": [10**9, 10**9]}}},
        {"latent_dim": 10**17},
        {"latent_dim": -3},
    ],
    ids=str,
)
def test_a_model_without_end_is_refused_in_one_line(change: dict, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(workspace / "runs/theirs/first", model=change)
    with pytest.raises(UserError, match="cannot be used"):
        genai.load(run, "last")
    assert main(["sample", str(run)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [("trainer", "num_nodes", 3), ("data", "num_workers", 100_000)],
)
def test_processes_without_end_are_refused(
    section: str, name: str, value: int, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"data": {"class_path": "genai.data.digits.Digits", "init_args": {}}, "trainer": {}}
    (options["data"]["init_args"] if section == "data" else options["trainer"])[name] = value
    run = write_run(workspace / "runs/theirs/first", **options)
    assert main(["test", str(run)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"{name} {value}" in line


def test_the_options_of_a_study_are_those_of_its_search_space(workspace: Path) -> None:
    """Its file may be that of a stranger, and the best trial's options are trained again."""
    from genai.training.search import Parameter
    from genai.training.study import Study, StudySettings

    space = {"data.init_args.batch_size": Parameter(16, 64), "trainer.precision": Parameter(choices=("32",))}
    study = Study("theirs", StudySettings(("digits/gan",), space, ()), "val/fid")
    own = {"data.init_args.batch_size": 32, "trainer.precision": "32"}
    for value, params in ((2.0, own), (1.0, {"trainer.callbacks": "[{class_path: payload.opt}]"})):
        distributions = {name: optuna.distributions.CategoricalDistribution([entry]) for name, entry in params.items()}
        study.study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
        if params == own:
            study.check_best(space)
    with pytest.raises(UserError, match=r"trainer\.callbacks in trial 1, which is not of this search space"):
        study.check_best(space)
    sizes, precisions = space.values()
    assert [value for value in (15, 16, 64.0, 65, True, "32", None) if sizes.has(value)] == [16, 64.0]
    assert [value for value in ("32", 32, "[x]") if precisions.has(value)] == ["32"]


def test_a_study_of_another_program_is_refused(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/other-trials").mkdir(parents=True)
    optuna.create_study(study_name="other", storage="sqlite:///runs/other-trials/study.db").add_trial(
        optuna.trial.create_trial(params={}, value=1.0)
    )
    assert main(["sweep", "--study", "other", "--best"]) == 2
    assert "is no study of `genai sweep`" in capsys.readouterr().err


def test_another_database_gets_no_tables(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("runs/theirs-trials/study.db")
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE mine(x)")
        database.commit()
    before = path.read_bytes()
    assert main(["sweep", "--study", "theirs", "--best"]) == 2
    assert "cannot be read as a study" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"scores": {"fid": 10**400}},
        {"protocol": None},
        {"protocol": {"num_samples": "x"}},
        {"protocol": {"features": 5}},
        {"seconds": "x"},
    ],
    ids=str,
)
def test_scores_are_numbers_and_protocols_are_protocols(
    change: dict, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(workspace / "runs/theirs/first")
    evaluation = {"scores": {"fid": 1.0}, "floor": {"fid": 0.1}, "images_seen": 10, "protocol": {}} | change
    (run / "metrics.json").write_text(json.dumps({"test": evaluation, "cost": {"seconds": change.pop("seconds", 1.0)}}))
    with pytest.raises(DamagedFileError, match="metrics"):
        Run(run).scores()
    assert main(["runs", "theirs"]) == 0
    assert "shown without scores" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"label_examples": value}
        for value in ([5], [[]], [["x"]], [[1], [1, 2]], [[10**9]], [[-1]], [[True]], [[0.5]], {"a": 1}, "x")
    ]
    + [{"class_names": [1, 2]}, {"class_names": [["a"]]}, {"resumed_with": [{}]}],
    ids=str,
)
def test_labels_of_a_record_are_labels(change: dict, workspace: Path) -> None:
    run = Run(write_run(workspace / "runs/theirs/first"))
    record = json.loads((run.path / "run.json").read_text()) | {"num_classes": 16} | change
    (run.path / "run.json").write_text(json.dumps(record))
    with pytest.raises(DamagedFileError, match=r"run\.json is damaged"):
        label_examples(run)


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": [1]},
        {"parameters": {"a": "x"}},
        {"class_shares": 5},
        {"class_shares": {"names": ["a"]}},
        {"class_shares": {"names": ["a"], "samples": [0.5, 0.5], "reference": [1.0]}},
        {"class_shares": {"names": ["a"], "samples": ["x"], "reference": [1.0]}},
        {"overrides": {"a": "b"}},
        {"overrides": [1]},
    ],
    ids=str,
)
def test_what_an_evaluation_says_besides_scores(change: dict, workspace: Path) -> None:
    run = write_run(workspace / "runs/theirs/first")
    evaluation = {"scores": {"fid": None}, "floor": {}, "images_seen": 10, **change}
    (run / "metrics.json").write_text(json.dumps({"test": evaluation}))
    with pytest.raises(DamagedFileError, match=r"metrics\.json is damaged"):
        Run(run).scores()


def test_scores_that_are_missing_are_left_out_of_a_comparison(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(workspace / "runs/theirs/first")
    evaluation = json.loads((REPOSITORY / "zoo/mnist-gan/metrics.json").read_text())["test"]
    evaluation = {name: value for name, value in evaluation.items() if name != "parameters"} | {
        "scores": {"fid": None, "kid": 1.0}
    }
    (run / "metrics.json").write_text(json.dumps({"test": evaluation}))
    assert main(["compare", str(run), "--csv"]) == 0
    assert "fid" not in capsys.readouterr().out


@pytest.mark.slow
def test_samples_are_not_written_through_a_link_of_a_stranger(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]
    assert main(["fit", *family("gan"), *short, "--tracker", "none"]) == 0
    run = find("digits-gan").path
    (workspace / "elsewhere").mkdir()
    (run / "samples").symlink_to(workspace / "elsewhere")
    assert main(["sample", str(run), "--num", "1"]) == 0  # one's own link to a larger disk, say
    monkeypatch.setenv("XDG_CONFIG_HOME", str(workspace / "other-user"))
    assert main(["sample", str(run), "--num", "2"]) == 2
    assert "is a link that leads out" in capsys.readouterr().err
    assert len(list((workspace / "elsewhere").iterdir())) == 1
