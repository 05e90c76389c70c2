"""genai validate: score a run on the validation split

Group: train and score
"""

from genai.cli.options.trainer import run_trainer_verb


def run(arguments: list[str]) -> None:
    """Score on the validation split; see `LightningCLI`."""
    run_trainer_verb("validate", arguments)
