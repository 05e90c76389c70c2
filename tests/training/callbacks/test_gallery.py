"""The gallery: which epochs have a grid, and where it goes."""

import numpy as np
import pytest
from PIL import Image

from genai.images import grid, to_uint8
from genai.models.seeds import image_seeds
from genai.training.callbacks.gallery import Gallery
from genai.training.callbacks.run_directory import RunDirectory
from tests.training.callbacks.test_evaluation import Data, Model, trainer


def grids(folder, every_n_epochs: int, epochs: int) -> list[str]:
    gallery = Gallery(num=9, every_n_epochs=every_n_epochs)
    trainer(gallery, RunDirectory(folder), max_epochs=epochs).fit(Model(), datamodule=Data())
    return sorted(path.name for path in folder.glob("samples/*"))


@pytest.mark.parametrize(("every", "expected"), [(0, []), (1, [1, 2, 3, 4, 5]), (2, [1, 2, 4, 5])])
def test_the_first_each_kth_and_the_last_epoch_have_a_grid(tmp_path, every, expected):
    assert grids(tmp_path, every, 5) == [f"epoch-{epoch:04d}.png" for epoch in expected]


def test_a_grid_says_which_model_made_it(tmp_path):
    grids(tmp_path, 1, 1)
    text = Image.open(tmp_path / "samples/epoch-0001.png").text
    assert (text["Model"], text["Epoch"], text["Seed"]) == ("Model", "1", "0")


def test_a_grid_holds_the_images_of_its_seed(tmp_path):
    model = Model()
    trainer(Gallery(num=9, seed=3), RunDirectory(tmp_path), max_epochs=1).fit(model, datamodule=Data())
    drawn = np.asarray(Image.open(tmp_path / "samples/epoch-0001.png"))
    assert np.array_equal(drawn, np.asarray(grid(to_uint8(model.sample(image_seeds(3, 9))))))
    assert not np.array_equal(drawn, np.asarray(grid(to_uint8(model.sample(image_seeds(0, 9))))))


def test_without_a_run_directory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer(Gallery(num=4), max_epochs=1).fit(Model(), datamodule=Data())
    assert not list(tmp_path.iterdir())
