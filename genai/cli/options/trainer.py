"""fit, validate, test and predict: prints their help, and starts genai/training for all else."""

import importlib
from collections.abc import Sequence

from genai.cli.trainer_help import VERB_HELP

ENGINE = "genai.training.launch"


def run_trainer_verb(verb: str, arguments: Sequence[str]) -> None:
    """Run a verb of Lightning. Without arguments or with --help, print its help, which does not import torch."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(VERB_HELP[verb])
    else:
        importlib.import_module(ENGINE).run(verb, list(arguments))
