"""The data module of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from jsonargparse import ArgumentParser

from genai.data.module import DataModule
from genai.runs import Run
from genai.runs.places import check_places
from genai.runs.trust import instantiate, read_config


def data_of(run: Run, trust: Sequence[str] = (), changes: Mapping[str, Any] | None = None) -> DataModule:
    """The data module of a run's config. Its classes are checked before they are imported; no data file is opened.

    Args:
        run: whose config is read.
        trust: packages that the config may name.
        changes: arguments of the data module instead of the config's.

    Raises:
        UserError: the config names a class that is not trusted.
    """
    config, policy = read_config(run, trust)
    section = config["data"]
    section["init_args"] = {**(section.get("init_args") or {}), **(changes or {})}
    policy.check(section, "data")
    check_places({"data": section}, run.path, policy)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(DataModule, "data")
    data: DataModule = instantiate(parser, {"data": section}, policy).data
    return data
