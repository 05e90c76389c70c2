"""fit, validate, test and predict: one page of help here, all else by LightningCLI in genai/training."""

import importlib
from collections.abc import Sequence

from genai.cli.trainer_help import VERB_HELP

ENGINE = "genai.training.launch"


def run_trainer_verb(verb: str, arguments: Sequence[str]) -> None:
    """Print the verb's page of help without arguments or for --help; otherwise run it. The help needs no import of torch."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(VERB_HELP[verb])
    else:
        importlib.import_module(ENGINE).run(verb, list(arguments))
