"""What a fit takes from other runs before it begins: initial weights, and the run that a reward reads."""

from collections.abc import Sequence

import lightning as L

from genai import runs
from genai.data.text import TextDataModule
from genai.errors import UserError
from genai.models.capabilities import InitialisesFromRun, ReadsRun
from genai.runs.text import tokenizer_of


def initialise(model: L.LightningModule, data: L.LightningDataModule, source: str, trust: Sequence[str]) -> None:
    """Give a new model of `data` the averaged weights of the run or zoo entry `source`.

    Raises:
        UserError: its network or its tokenizer is another one.
    """
    if not isinstance(model, InitialisesFromRun):
        raise UserError(f"a {type(model).__name__} cannot start from another run: leave --init_from out")
    other = runs.load(source, trust=trust)
    if isinstance(data, TextDataModule) and tokenizer_of(runs.find(source)).spec() != data.tokenizer.spec():
        raise UserError(
            f"--init_from {source} has another tokenizer than {data.name}, so that its weights belong to other tokens: "
            "use data.init_args.tokens: bytes for both, or the text that it was trained on"
        )
    try:
        model.initialise_from(other.export_state())
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(
            f"--init_from {source} has another network than the model ({reason}): give the model the same init_args"
        ) from None


def load_reward(model: L.LightningModule, trust: Sequence[str]) -> None:
    """Give the reward of a model the run that it reads, if it is one that reads a run."""
    reward = getattr(model, "reward", None)
    if isinstance(reward, ReadsRun):
        reward.use(runs.load(reward.run, trust=trust))
