"""genai predict: generate an image for each label of the test split (.npz)

Group: sample and edit
"""

from genai.cli.options.trainer import run_trainer_verb


def run(arguments: list[str]) -> None:
    """Predict on the test split; see `LightningCLI`."""
    run_trainer_verb("predict", arguments)
