"""genai fit: train a model from a YAML file, or resume a run

Group: train and score
"""

from genai.cli.options.trainer import run_trainer_verb


def run(arguments: list[str]) -> None:
    """Train; see `LightningCLI`."""
    run_trainer_verb("fit", arguments)
