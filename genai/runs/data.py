"""The data module of a run."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from genai.data.base import ImageDataModule
from genai.runs import Run
from genai.runs.loading import check_trusted
from genai.runs.signature import packages_of_user


def data_of(run: Run, trust: Sequence[str] = ()) -> ImageDataModule:
    """The data module of a run's config. Its classes are checked before they are imported; no data file is opened.

    Raises:
        UserError: the config names a class that is not trusted.
    """
    section = run.config()["data"]
    check_trusted(section, [*trust, *packages_of_user(run.path)], run.path / "config.yaml")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data")
    data: ImageDataModule = parser.instantiate_classes(parser.parse_object({"data": section})).data
    return data
