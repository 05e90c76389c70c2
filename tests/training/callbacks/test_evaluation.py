"""EvaluateSamples: what it evaluates, when, and where the scores go."""

import json

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader

from genai.data.digits import Digits
from genai.errors import UserError
from genai.images import to_uint8
from genai.metrics.two_sample import classifier_accuracy
from genai.models.base import ImageModel
from genai.models.ema import Averaged
from genai.models.seeds import image_seeds, seeded_normal
from genai.runs import merge_json
from genai.training.callbacks.evaluation import EvaluateSamples, describe_sizes, network_sizes
from genai.training.callbacks.run_directory import RunDirectory
from tests.metrics.helpers import FakeData, write_network


class Data(FakeData, L.LightningDataModule):
    def __init__(self) -> None:
        L.LightningDataModule.__init__(self)
        FakeData.__init__(self)

    def loader(self) -> DataLoader:
        return DataLoader(torch.zeros(4, 1))

    train_dataloader = val_dataloader = test_dataloader = loader


class Model(ImageModel):
    """Samples noise whose brightness is its condition; training changes nothing."""

    def __init__(self, conditional: bool = False) -> None:
        super().__init__((1, 8, 8), 3)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.conditional = conditional
        self.seen: list[tuple[int, int]] = []

    def generate(self, seeds, condition, **options):
        self.seen += [(seed, -1 if condition is None else int(condition[i])) for i, seed in enumerate(seeds)]
        shift = 0 if condition is None else condition.view(-1, 1, 1, 1) - 1.0
        return (seeded_normal(seeds, self.image_shape, self.device) / 2 + shift).clamp(-1, 1)

    def training_step(self, batch, batch_idx):
        self.images_seen += len(batch)
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        pass

    test_step = validation_step

    def averages(self):
        return ()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Recorder(Logger):
    """Keeps what is logged."""

    name, version = "recorder", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict]] = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, {key: value for key, value in metrics.items() if key.startswith(("val/", "test/"))}))

    def log_hyperparams(self, *args, **kwargs):
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def callback(tmp_path):
    network = write_network(tmp_path / "small.safetensors")
    return EvaluateSamples(str(network), num_samples=100, batch_size=30)


def trainer(*callbacks, **kwargs):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "enable_checkpointing": False}
    return L.Trainer(accelerator="cpu", callbacks=list(callbacks), **(quiet | kwargs))


def test_fit_evaluates_each_kth_epoch_and_the_last(callback):
    callback.every_n_epochs = 2
    recorder = Recorder()
    fit = trainer(callback, max_epochs=3, logger=recorder)
    fit.fit(Model(), datamodule=Data())
    rows = [row for _, row in recorder.rows if "val/fid" in row]
    assert len(rows) == 2
    assert {f"val/{name}" for name in (*callback.latest_result.scores, "fid_floor", "share_0")} <= rows[0].keys()
    assert float(fit.callback_metrics["val/fid"]) == pytest.approx(callback.latest_result.scores["fid"], rel=1e-6)


@pytest.mark.slow
def test_the_two_sample_test_on_request(callback, tmp_path, capsys):
    """`test` prints and writes it with its spread and floor; a fit does not spend the time."""
    callback.two_sample = True
    trainer(callback, RunDirectory(tmp_path)).test(Model(), datamodule=Data(), verbose=False)
    test = json.loads((tmp_path / "metrics.json").read_text())["test"]
    samples, real = to_uint8(Model().sample(image_seeds(0, 100))), Data().split("test").images
    expected = classifier_accuracy(samples, real)
    assert (test["scores"]["two_sample"], test["scores"]["two_sample_std"]) == expected
    assert test["floor"]["two_sample"] == pytest.approx(0.5, abs=0.2)
    assert "Two-sample accuracy" in capsys.readouterr().out
    trainer(callback, max_epochs=1).fit(Model(), datamodule=Data())
    assert "two_sample" not in callback.latest_result.scores


def test_options_that_the_config_lacks_stay_out_of_the_curves(callback, tmp_path):
    recorder = Recorder()
    option = "--model.init_args.steps=3"
    trainer(callback, RunDirectory(tmp_path, [option]), logger=recorder).test(Model(), datamodule=Data(), verbose=False)
    assert not any("test/fid" in row for _, row in recorder.rows)
    assert json.loads((tmp_path / "metrics.json").read_text())["test"]["overrides"] == [option]


def test_it_works_without_the_command_line(tmp_path, monkeypatch, capsys):
    """A fit in Python: no run directory, nothing written, metrics where a checkpoint or early stopping finds them."""
    monkeypatch.chdir(tmp_path)
    callback = EvaluateSamples(num_samples=60, batch_size=30)
    run = trainer(callback, max_epochs=1, limit_train_batches=1, limit_val_batches=1)
    run.fit(Model(), Digits())
    assert callback.latest_result.protocol.features == "digits"
    assert callback.latest_result.protocol.num_reference == 60
    assert float(run.callback_metrics["val/recall"]) == pytest.approx(callback.latest_result.scores["recall"])
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert capsys.readouterr().out == ""


def test_without_a_data_module_it_says_so(callback):
    with pytest.raises(UserError, match="needs a data module"):
        trainer(callback, max_epochs=1).fit(Model(), DataLoader(torch.zeros(4, 1)))


def test_checkpoints_can_monitor_the_fid(callback, tmp_path):
    checkpoint = ModelCheckpoint(tmp_path / "checkpoints", monitor="val/fid", save_on_train_epoch_end=False)
    trainer(callback, checkpoint, max_epochs=1, enable_checkpointing=True).fit(Model(), datamodule=Data())
    assert float(checkpoint.best_model_score) == pytest.approx(callback.latest_result.scores["fid"], rel=1e-6)


def test_every_zero_epochs_scores_none_while_fitting(callback):
    callback.every_n_epochs = 0
    trainer(callback, max_epochs=1).fit(Model(), datamodule=Data())
    assert callback.latest_result is None


def test_validation_and_test_merge_into_metrics_json(callback, tmp_path, capsys):
    (tmp_path / "metrics.json").write_text('{"other": 1}')
    run = trainer(callback, RunDirectory(tmp_path))
    run.validate(Model(), datamodule=Data(), verbose=False)
    run.test(Model(), datamodule=Data(), verbose=False)
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content.keys() == {"other", "sampling", "val", "test"}
    assert content["val"]["protocol"]["num_reference"] == 60
    assert content["test"]["protocol"]["num_reference"] == 80
    assert content["test"]["scores"]["fid"] == callback.latest_result.scores["fid"]
    assert content["test"]["images_seen"] == 0
    output = capsys.readouterr().out
    assert output.count("real against real") == 2
    assert "Test metric" not in output  # Lightning's own table


def test_outside_of_a_fit_metrics_are_logged_at_images_seen(callback):
    model, recorder = Model(), Recorder()
    model.images_seen = 1234
    trainer(callback, logger=recorder).test(model, datamodule=Data())
    assert [step for step, row in recorder.rows if "test/fid" in row] == [1234]


def test_the_sizes_of_the_networks_stand_beside_the_scores(callback, tmp_path, capsys):
    model = Model()
    model.generator, model.discriminator = torch.nn.Linear(1000, 3), torch.nn.Linear(4, 2, bias=False)
    model.averaged, model.objective = Averaged(model.generator, 1), torch.nn.Softplus()
    assert network_sizes(model) == {"generator": 3003, "discriminator": 8}
    assert describe_sizes(network_sizes(model)) == "parameters: generator 3,003, discriminator 8"
    run = trainer(callback, RunDirectory(tmp_path))
    for stage in (run.validate, run.test):
        stage(model, datamodule=Data(), verbose=False)
        assert "parameters: generator 3,003, discriminator 8\n" in capsys.readouterr().out
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["val"]["parameters"] == content["test"]["parameters"] == network_sizes(model)


def test_each_sample_has_its_own_seed(callback):
    model = Model()
    trainer(callback).validate(model, datamodule=Data(), verbose=False)
    assert {seed for seed, _ in model.seen} == set(range(100))


def test_a_conditional_model_is_conditioned_on_the_labels_of_the_reference(callback):
    model = Model(conditional=True)
    trainer(callback).validate(model, datamodule=Data(), verbose=False)
    labels = Data().split("val").labels  # 60 of them, for 100 samples
    assert set(model.seen) == {(i, labels[i % 60]) for i in range(100)}
    assert 0 <= callback.latest_result.scores["label_agreement"] <= 1
    assert "label_agreement" in callback.latest_result.floor


def test_a_dev_run_evaluates_few_samples(callback):
    trainer(callback, fast_dev_run=True).fit(Model(), datamodule=Data())
    assert callback.latest_result.protocol.num_samples == 64


def test_other_models_are_left_alone(callback):
    class Other(L.LightningModule):
        validation_step = Model.validation_step

    trainer(callback).validate(Other(), datamodule=Data(), verbose=False)
    assert callback.latest_result is None


def test_missing_weights_are_an_error_before_training(callback):
    callback.features = "nonsense"
    model = Model()
    with pytest.raises(UserError, match="no feature network"):
        trainer(callback, max_epochs=1).fit(model, datamodule=Data())
    assert model.images_seen == 0


def test_training_goes_on_with_the_same_random_numbers(callback):
    """A fit that is evaluated uses the same random numbers as one that is not."""
    states = []
    for every_n_epochs in (0, 1):
        callback.every_n_epochs = every_n_epochs
        torch.manual_seed(0)
        trainer(callback, max_epochs=2).fit(Model(), datamodule=Data())
        states.append(torch.get_rng_state())
    assert callback.latest_result is not None
    assert torch.equal(*states)


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_give_the_same_scores(callback, tmp_path):
    scores = []
    for devices, strategy in ((1, "auto"), (2, "ddp_spawn")):
        trainer(callback, RunDirectory(tmp_path), devices=devices, strategy=strategy).validate(
            Model(), datamodule=Data(), verbose=False
        )
        scores.append(json.loads((tmp_path / "metrics.json").read_text()))
        (tmp_path / "metrics.json").unlink()
    assert scores[0] == scores[1]


def test_merging_keeps_other_entries(tmp_path):
    path = tmp_path / "metrics.json"
    merge_json(path, {"val": {"fid": 1}, "train": 2})
    merge_json(path, {"val": {"kid": 3}})
    assert json.loads(path.read_text()) == {"val": {"kid": 3}, "train": 2}
    assert [file for file in tmp_path.iterdir() if file.is_file()] == [path]


def test_merging_can_keep_what_it_replaces(tmp_path):
    path = tmp_path / "metrics.json"
    for entry in ({"fid": 1}, {"fid": 2}, {"fid": 2}, {"fid": 3}):
        merge_json(path, {"test": entry}, keep=True)
    assert json.loads(path.read_text()) == {"test": {"fid": 3}, "earlier": [{"test": {"fid": 1}}, {"test": {"fid": 2}}]}


def test_one_sample_is_too_few():
    with pytest.raises(UserError, match="use 2 or more"):
        EvaluateSamples(num_samples=1)
