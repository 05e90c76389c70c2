"""genai test: score a run on the test split, beside the real-vs-real floor

Group: train and score
"""

from genai.cli.options.trainer import run_trainer_verb


def run(arguments: list[str]) -> None:
    """Score on the test split; see `LightningCLI`."""
    run_trainer_verb("test", arguments)
