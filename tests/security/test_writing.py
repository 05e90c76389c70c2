"""A run from elsewhere deletes nothing and writes nothing outside of its own folder."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

from genai import runs
from genai.cli import main
from genai.errors import UserError, WriteError
from genai.files import write_atomically, write_csv
from genai.runs.export import check_target
from genai.runs.places import check_links, check_places
from genai.runs.signature import is_own
from genai.runs.trust import Policy
from genai.training.callbacks.checkpoints import AtomicCheckpointIO, rebased
from genai.training.locks import RunLock
from genai.training.loggers import WandbOptions, wandb_logger
from genai.training.record import write_config
from tests.families import family
from tests.security.test_execution import write_run

QUICK = ["--tracker", "none", "--trainer.enable_progress_bar", "false", "--trainer.limit_train_batches", "2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of one epoch with a best.ckpt."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENAI_RUNS", str(folder / "runs"))
        patch.chdir(folder)
        options = ["--trainer.max_epochs", "1", "--evaluation.every_n_epochs", "1", "--evaluation.num_samples", "50"]
        assert main(["fit", *family("vae"), *QUICK, *options]) == 0
        yield runs.find("digits-vae").path


def best_state(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The state of BestCheckpoint in a checkpoint."""
    [state] = [state for key, state in checkpoint["callbacks"].items() if key.startswith("BestCheckpoint")]
    return state


@pytest.mark.slow
def test_a_resumed_checkpoint_deletes_nothing_elsewhere(trained: Path, workspace: Path) -> None:
    run, precious = workspace / "runs/e/theirs", workspace / "precious.ckpt"
    shutil.copytree(trained, run)
    precious.mkdir()
    (precious / "thesis.tex").touch()
    path = run / "checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    state = best_state(checkpoint)
    worst = torch.tensor(1e9)
    state |= {"dirpath": str((run / "checkpoints").resolve()), "best_k_models": {str(precious): worst}}
    state |= {"kth_best_model_path": str(precious), "best_model_path": str(precious), "last_model_path": str(precious)}
    state |= {"kth_value": worst, "best_model_score": worst}
    torch.save(checkpoint, path)
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs", "2"]) == 0
    assert (precious / "thesis.tex").is_file()


@pytest.mark.slow
def test_a_run_that_was_moved_keeps_its_best_checkpoint(trained: Path, workspace: Path) -> None:
    run = workspace / "runs/e/moved"
    shutil.copytree(trained, run)
    path = run / "checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    state, unbeatable = best_state(checkpoint), torch.tensor(-1.0)
    state |= {"best_k_models": dict.fromkeys(state["best_k_models"], unbeatable), "kth_value": unbeatable}
    state["best_model_score"] = unbeatable
    torch.save(checkpoint, path)
    best = (run / "checkpoints/best.ckpt").read_bytes()
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs", "2"]) == 0
    assert (run / "checkpoints/best.ckpt").read_bytes() == best
    after = best_state(torch.load(path, weights_only=True))
    assert after["best_model_score"] == unbeatable
    assert after["best_model_path"] == str((run / "checkpoints/best.ckpt").resolve())


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../x.ckpt", "..", ".", "", "link.ckpt", "folder.ckpt", 3, None, "a\x00.ckpt"], ids=repr
)
def test_paths_of_a_checkpoint_are_looked_for_in_its_folder(path: Any, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    (tmp_path / "link.ckpt").symlink_to(tmp_path / "x")
    (tmp_path / "folder.ckpt").mkdir()
    score = torch.tensor(1.0)
    state = {"best_model_path": path, "kth_best_model_path": path, "last_model_path": path, "best_k_models": {path: score}}
    callback = ModelCheckpoint(tmp_path, monitor="m")
    callback.load_state_dict(rebased(state | {"kth_value": score, "best_model_score": score}, callback.dirpath))
    assert (callback.best_model_path, callback.kth_best_model_path, callback.last_model_path) == ("", "", "")
    assert callback.best_k_models == {}
    assert callback.best_model_score is None


@pytest.mark.parametrize(
    "state", [None, [], {}, {"best_k_models": 3, "kth_value": "x"}, {"best_k_models": {"best.ckpt": "x"}}], ids=repr
)
def test_a_malformed_state_is_forgotten(state: Any, tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").touch()
    assert rebased(state, str(tmp_path))["best_k_models"] == {}


def test_folders_are_not_removed_as_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name in ("folder", "file", "link", "absent"):
        AtomicCheckpointIO().remove_checkpoint(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    "trainer",
    [
        {
            "profiler": {
                "class_path": "lightning.pytorch.profilers.SimpleProfiler",
                "init_args": {"dirpath": "OUT", "filename": "x"},
            }
        },
        {"profiler": {"class_path": "lightning.pytorch.profilers.SimpleProfiler", "init_args": {"filename": "../../../x"}}},
        {"callbacks": [{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"dirpath": "OUT"}}]},
        {"callbacks": [{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"filename": "OUT/x"}}]},
        {"logger": [{"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "."}}]},
        {"default_root_dir": "OUT"},
    ],
    ids=lambda trainer: next(iter(trainer)),
)
def test_a_config_that_writes_elsewhere_is_refused(trainer: dict[str, Any], workspace: Path) -> None:
    text = json.dumps(trainer).replace("OUT", str(workspace / "elsewhere"))
    run = workspace / "runs/e/theirs"
    run.mkdir(parents=True)
    with pytest.raises(UserError, match=r"would write to .*: remove trainer"):
        check_places({"trainer": json.loads(text)}, run, Policy(run / "config.yaml"))
    check_places({"trainer": json.loads(text)}, run, Policy(run / "config.yaml", unrestricted=True))


def test_a_config_that_writes_into_its_run_passes(workspace: Path) -> None:
    run = workspace / "runs/e/theirs"
    callback = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"dirpath": str(run / "mine")}}
    callback["init_args"] |= {"filename": "{epoch}-{step}", "monitor": "val/fid"}
    check_places({"trainer": {"callbacks": [callback], "default_root_dir": str(run)}}, run, Policy(run / "config.yaml"))


@pytest.mark.parametrize("name", ["checkpoints", "lock", "samples/x.png"])
def test_a_link_out_of_a_run_from_elsewhere_is_refused(name: str, workspace: Path) -> None:
    run = workspace / "runs/e/theirs"
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).symlink_to(workspace)
    with pytest.raises(UserError, match="is a link that leads out of"):
        check_links(run, Policy(run / "config.yaml"))
    check_links(run, Policy(run / "config.yaml", unrestricted=True))


@pytest.mark.parametrize("trainer", [None, {}, {"max_epochs": 2}], ids=str)
@pytest.mark.parametrize("verb", ["fit --resume", "test", "predict", "average --std 0.1"])
def test_links_are_refused_whatever_the_config_says(
    verb: str, trainer: Any, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, elsewhere = write_run(workspace / "runs/e/theirs"), workspace / "elsewhere"
    config = yaml.safe_load((run / "config.yaml").read_text()) | {"trainer": trainer}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.move(run / "checkpoints", elsewhere)
    (run / "checkpoints").symlink_to(elsewhere)
    assert main([*verb.split(), str(run)] if "fit" in verb else [verb.split()[0], str(run), *verb.split()[1:]]) == 2
    assert "is a link that leads out of" in capsys.readouterr().err
    assert [path.name for path in elsewhere.iterdir()] == ["last.ckpt"]


NAMES = ["config.yaml", "run.json", "metrics.json", "metrics.csv", "lock.json", "checkpoints/last.ckpt"]


def write_all(run: Path) -> None:
    """Write each of NAMES, and config.1.yaml, as a fit does."""
    runs.write_json(run / "run.json", {"format": runs.FORMAT})
    write_config(run, "a: 1\n")
    write_config(run, "a: 2\n")
    runs.merge_json(run / "metrics.json", {"test": {}})
    write_csv(run / "metrics.csv", [["images_seen"], [1]])
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}}, run / "checkpoints/last.ckpt")
    lock = RunLock(run)
    lock.acquire()
    lock.release()


@pytest.mark.parametrize("suffix", ["", ".tmp"])
def test_links_in_a_run_are_not_written_through(suffix: str, workspace: Path) -> None:
    run, victim = workspace / "runs/e/theirs", workspace / "victim"
    (run / "checkpoints").mkdir(parents=True)
    victim.write_text("{}")
    for name in [*NAMES, "previous.ckpt", "checkpoints/previous.ckpt", *(["lock"] if suffix else [])]:
        (run / f"{name}{suffix}").symlink_to(victim)
    write_all(run)
    assert victim.read_text() == "{}"


def test_a_lock_that_is_a_link_is_refused(workspace: Path) -> None:
    victim = workspace / "victim"
    victim.write_text("mine")
    (workspace / "lock").symlink_to(victim)
    with pytest.raises(UserError, match="cannot be locked"):
        RunLock(workspace).acquire()
    assert victim.read_text() == "mine"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(WriteError, match="x"):
        write_atomically(tmp_path / "x", "content")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_no_entry_of_metrics_json_is_lost_when_several_are_written_at_once(workspace: Path) -> None:
    path = workspace / "metrics.json"
    threads = [threading.Thread(target=runs.merge_json, args=(path, {f"split {i}": {"fid": i}})) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads(path.read_text())) == 20


def test_export_replaces_zoo_entries_alone(workspace: Path) -> None:
    target = workspace / "x"
    check_target(target, force=False)
    target.mkdir()
    with pytest.raises(UserError, match="add --force"):
        check_target(target, force=False)
    with pytest.raises(UserError, match="is not a zoo entry"):
        check_target(target, force=True)
    for name in ("run.json", "weights.safetensors"):
        (target / name).touch()
    check_target(target, force=True)
    (workspace / "link").symlink_to(target)
    with pytest.raises(UserError, match="is not a zoo entry"):
        check_target(workspace / "link", force=True)
    (target / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"other files too \(thesis\.tex\)"):
        check_target(target, force=True)


def test_a_config_may_not_name_a_file_of_checkpoints(trained: Path, workspace: Path) -> None:
    """`ckpt_path` and `run_dir` of a run's config have no effect: the run and its checkpoint are those of the command."""
    from genai.training.arguments import parse, resolve

    run = workspace / "runs/e/theirs"
    shutil.copytree(trained, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"ckpt_path": "elsewhere.ckpt", "run_dir": str(workspace)}))
    arguments = resolve("test", parse([str(run)])).arguments
    assert "elsewhere" not in " ".join(arguments)
    assert arguments[arguments.index("--run_dir") + 1] == str(run)


def test_a_run_from_elsewhere_stays_one_when_it_is_continued(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = workspace / "runs/e/theirs"
    runs.write_json(run / "run.json", {"format": runs.FORMAT})
    write_config(run, "a: 1\n")
    write_config(run, "a: 2\n")
    assert is_own(run)
    (run / "config.yaml").write_text("a: 3\n")
    write_config(run, "a: 4\n")
    assert not is_own(run)


def test_a_tracker_id_that_is_a_path_is_refused(workspace: Path) -> None:
    with pytest.raises(UserError, match="tracker_id"):
        wandb_logger(workspace, "../../elsewhere", {}, WandbOptions())
