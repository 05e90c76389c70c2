"""Mode collapse: its detection, the messages and when they are printed, the table and the chart."""

import lightning as L
import pytest
import torch
from PIL import Image

from genai.data.digits import Digits
from genai.metrics.collapse import Thresholds, diagnose
from genai.metrics.evaluation import EvaluationResult, Measurement
from genai.metrics.protocol import Protocol
from genai.models.base import ImageModel
from genai.training.callbacks.collapse import Collapse
from genai.training.callbacks.collapse_events import next_event, read_rows
from genai.training.callbacks.evaluation import EvaluateSamples
from genai.training.callbacks.run_directory import RunDirectory
from tests.training.callbacks.test_evaluation import Recorder, trainer

THRESHOLDS = Thresholds()
EVEN = [0.1] * 10
ONES = [0.07, 0.41] + [0.065] * 8
LOST = [0.125, 0.125, 0.0, 0.125, 0.125, 0.125, 0.0, 0.125, 0.125, 0.125]  # without 2 and 6


def evaluation(shares=None, real=EVEN, num=10_000, precision=0.8, recall=0.6) -> EvaluationResult:
    """The result for `num` samples with these class shares."""
    protocol = Protocol("digits", "", "val", num, num, "digits", "", "", 0, 10, 100, 1000, 3)
    samples = Measurement({"fid": 1.0, "precision": precision, "recall": recall}, class_shares=shares)
    floor = Measurement({"fid": 0.1, "precision": 0.94, "recall": 0.9}, class_shares=shares and list(real))
    names = tuple(str(k) for k in range(len(real))) if shares else ()
    return EvaluationResult(samples, floor, protocol, names, list(real) if shares else None)


def diagnosis(*args, thresholds=THRESHOLDS, **kwargs):
    return diagnose(evaluation(*args, **kwargs), thresholds)


def test_even_shares_are_no_collapse():
    found = diagnosis(EVEN)
    assert (found.state, found.overrepresented, found.missing) == ("fine", (), ())
    assert found.describe() == "no class over-represented or missing; recall 0.60 (floor 0.90)"


def test_too_many_ones_are_named():
    found = diagnosis(ONES, real=[0.1, 0.113, *[0.0983] * 8], recall=0.12)
    assert found.state == "collapsed"
    assert [c.name for c in found.overrepresented] == ["1"]
    assert found.describe() == "class 1 makes up 41.0 % of the samples, 11.3 % of the real images; recall 0.12 (floor 0.90)"


def test_missing_classes_are_named():
    found = diagnosis(LOST)
    assert (found.state, found.overrepresented) == ("collapsed", ())
    assert found.describe() == "missing: 2, 6; recall 0.60 (floor 0.90)"


@pytest.mark.parametrize(
    ("shares", "recall", "thresholds"),
    [
        (ONES, 0.6, Thresholds(max_share_ratio=5)),
        (LOST, 0.6, Thresholds(min_share_ratio=0, significance=0)),
        (LOST, 0.6, Thresholds(min_affected=3)),
        (None, 0.1, Thresholds(min_recall=0.1)),
    ],
)
def test_each_threshold_decides(shares, recall, thresholds):
    assert diagnosis(shares, recall=recall).state == "collapsed"
    assert diagnosis(shares, recall=recall, thresholds=thresholds).state != "collapsed"


def test_twice_the_real_share_is_the_boundary():
    below, above = [0.199, *[0.089] * 9], [0.201, *[0.799 / 9] * 9]
    assert [diagnosis(shares).state for shares in (below, above)] == ["fine", "collapsed"]


@pytest.mark.parametrize("num", [64, 350, 10_000])
def test_the_noise_of_an_even_model_is_no_collapse(num):
    generator = torch.Generator().manual_seed(num)
    for _ in range(100):
        samples, real = (torch.randint(10, (num,), generator=generator).bincount(minlength=10) / num for _ in range(2))
        assert diagnosis(samples.tolist(), real.tolist(), num).state == "fine"


def test_the_same_excess_is_chance_in_few_samples_and_collapse_in_many():
    shares = [0.25, *[0.75 / 9] * 9]
    assert [diagnosis(shares, num=num).state for num in (40, 10_000)] == ["fine", "collapsed"]


def test_a_lost_class_among_a_thousand_is_no_collapse_but_is_named():
    even = [0.001] * 1000
    one, half = [0.0, *[1 / 999] * 999], [0.0, 0.002] * 500
    assert diagnosis(one, even, 100_000).state == "fine"
    assert "missing: 0;" in diagnosis(one, even, 100_000).describe()
    assert diagnosis(half, even, 100_000).state == "collapsed"
    assert "missing: 500 classes" in diagnosis(half, even, 100_000).describe()


def test_without_classes_the_recall_decides():
    assert [diagnosis(recall=recall).state for recall in (0.22, 0.23)] == ["collapsed", "fine"]  # a quarter of 0.9


def test_noise_that_looks_like_ones_is_not_called_collapse():
    found = diagnosis(ONES, precision=0.28)
    assert found.state == "low_precision"
    assert found.describe().startswith("precision 0.28 (floor 0.94); class 1")


def story(*measured) -> list[str]:
    """The events of successive measurements."""
    rows = []
    for found in measured:
        event = next_event(rows, found)
        counts = {"num_overrepresented": len(found.overrepresented), "num_missing": len(found.missing)}
        rows.append({"state": found.state, "event": event, "recall": found.recall, **counts})
    return [row["event"] for row in rows]


def test_onset_worsening_and_end_are_reported_once():
    fine, ones, lost = diagnosis(EVEN), diagnosis(ONES), diagnosis(LOST)
    assert story(fine, ones, ones, lost, ones, lost, fine, fine) == ["", "collapse", "", "worse", "", "", "recovered", ""]
    assert story(ones, fine, ones) == ["collapse", "recovered", "collapse"]


def test_without_classes_a_collapse_is_worse_when_recall_halves():
    assert story(*(diagnosis(recall=recall) for recall in (0.2, 0.11, 0.09, 0.08))) == ["collapse", "", "worse", ""]


def test_not_yet_like_the_data_is_reported_once_and_never_afterwards():
    noise, fine, ones = diagnosis(ONES, precision=0.0), diagnosis(EVEN), diagnosis(ONES)
    assert story(noise, noise, fine, fine) == ["not yet", "", "", ""]
    assert story(noise, fine, noise, noise, fine) == ["not yet", "", "no longer", "", "recovered"]
    assert story(noise, ones, noise, ones, fine) == ["not yet", "collapse", "", "", "recovered"]
    assert story(fine, noise, ones, noise) == ["", "no longer", "collapse", ""]
    assert story(diagnosis(EVEN, precision=0.0), fine) == ["", ""]


# ---------------------------------------------------------------------------------------------------------------------


class Constant(ImageModel):
    """Samples one real image of each of `digits`, cycled."""

    def __init__(self, digits: tuple[int, ...] = (1,)) -> None:
        super().__init__((1, 8, 8), 10)
        self.digits = digits
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def generate(self, seeds, condition, **options):
        split = self.trainer.datamodule.split("train")
        chosen = [next(i for i, label in enumerate(split.labels) if label == digit) for digit in self.digits]
        images = split.batch([chosen[seed % len(chosen)] for seed in seeds]).images
        return images / 127.5 - 1

    def training_step(self, batch, batch_idx):
        self.count_images(len(batch[0]))
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        pass

    def averages(self):
        return ()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture
def callbacks(tmp_path):
    return EvaluateSamples(num_samples=200), Collapse(), RunDirectory(tmp_path)


def fit(model, *callbacks, epochs=2, **kwargs):
    L.seed_everything(0, verbose=False)
    run = trainer(*callbacks, max_epochs=epochs, limit_train_batches=2, limit_val_batches=1, **kwargs)
    run.fit(model, datamodule=Digits())
    return run


@pytest.mark.slow
@pytest.mark.parametrize("enable_progress_bar", [False, True])
def test_a_collapsed_fit_says_so_once_and_writes_table_and_chart(callbacks, tmp_path, capsys, enable_progress_bar):
    recorder = Recorder()
    fit(Constant(), *callbacks, logger=recorder, enable_progress_bar=enable_progress_bar)
    lines = [line for line in capsys.readouterr().out.split("\n") if "it/s" not in line]
    text = " ".join(" ".join(lines).split())
    assert text.count("collapse") == 1
    assert max(map(len, lines)) <= 80
    assert "collapse at epoch 1 (256 images): class 1 makes up 100.0 % of the samples, " in text
    assert "missing: 0, 2, 3, 4, 5, 6, 7, 8, 9; recall 0.00 (floor" in text
    rows = read_rows(tmp_path / "samples/collapse.csv")
    assert [(row["epoch"], row["images_seen"], row["state"], row["event"]) for row in rows] == [
        (1, 256, "collapsed", "collapse"),
        (2, 512, "collapsed", ""),
    ]
    assert rows[0]["share_1"] == 1.0
    assert rows[0]["class_kl"] > 2 > rows[0]["class_kl_floor"]
    assert Image.open(tmp_path / "samples/collapse.png").size == (990, 880)
    assert [row["val/collapsed"] for _, row in recorder.rows if "val/collapsed" in row] == [1.0, 1.0]


def test_the_order_of_the_callbacks_does_not_matter(callbacks, capsys):
    fit(Constant(), *reversed(callbacks), epochs=1)
    assert "collapse at epoch 1 (256 images)" in capsys.readouterr().out


def test_ten_digits_are_no_collapse(callbacks, capsys):
    fit(Constant(tuple(range(10))), *callbacks, epochs=1)
    assert capsys.readouterr().out == ""
    assert [row["state"] for row in callbacks[1].rows] == ["fine"]


@pytest.mark.slow
def test_a_resumed_fit_drops_later_rows_and_knows_what_was_reported(callbacks, tmp_path, capsys):
    twos = fit(Constant((2,)), *callbacks, epochs=1)
    twos.save_checkpoint(tmp_path / "first.ckpt")
    fit(Constant((2,)), *callbacks, epochs=3)
    capsys.readouterr()
    run = trainer(callbacks[0], Collapse(), callbacks[2], max_epochs=2, limit_train_batches=2, limit_val_batches=1)
    run.fit(Constant((1,)), datamodule=Digits(), ckpt_path=tmp_path / "first.ckpt", weights_only=True)
    rows = read_rows(tmp_path / "samples/collapse.csv")
    assert [(row["images_seen"], row["share_2"], row["share_1"]) for row in rows] == [(256, 1.0, 0.0), (512, 0.0, 1.0)]
    assert capsys.readouterr().out == ""


def test_nothing_is_done_where_nothing_is_scored(callbacks, tmp_path, capsys):
    callbacks[0].every_n_epochs = 0
    fit(Constant(), *callbacks, epochs=1)
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "samples").exists()


def test_validating_reports_nothing(callbacks, tmp_path):
    model = Constant()
    trainer(*callbacks, limit_val_batches=1).validate(model, datamodule=Digits(), verbose=False)
    assert not (tmp_path / "samples").exists()
    callbacks[0].every_n_epochs = 0
    fit(model, *callbacks, epochs=1)  # a result from before the fit is not reported
    assert not (tmp_path / "samples").exists()


def test_without_classes_there_is_a_table_without_shares(tmp_path, capsys):
    Collapse().report(evaluation(recall=0.12), 1, 100, tmp_path / "samples/collapse.csv")
    row = read_rows(tmp_path / "samples/collapse.csv")[0]
    assert (row["recall"], row["recall_floor"], row["state"]) == (0.12, 0.9, "collapsed")
    assert not any("share" in name or "class" in name for name in row)
    assert capsys.readouterr().out == "collapse at epoch 1 (100 images): recall 0.12 (floor 0.90)\n"


def test_without_a_run_directory_events_are_printed_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fit(Constant(), EvaluateSamples(num_samples=200), Collapse(), epochs=1)
    assert "collapse at epoch 1 (256 images)" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
