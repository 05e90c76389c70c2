"""The command line: Lightning's verbs and our own, each imported only when called."""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from genai import __version__
from genai.cli.memory import keep_freed_memory
from genai.cli.trainer_help import VERB_HELP
from genai.errors import UserError

# Before torch is loaded: threads that wait for one another sleep. Spinning, as is libgomp's habit, makes a training that
# shares its cores with another program several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

TRAINER_VERBS = {
    "fit": "train a model from a YAML file, or go on with a run (--resume RUN)",
    "validate": "score a run on the validation split",
    "test": "score a run on the test split, beside the real-against-real floor",
    "predict": "draw one image for each picture of the test split into RUN/predictions.npz",
}
OWN_VERBS = {
    "sample": "draw images from a run or a zoo entry",
    "vary": "draw variations of a picture",
    "inpaint": "fill in a part of a picture",
    "upscale": "draw a small picture large",
    "reconstruct": "draw pictures over what a model makes of their codes",
    "interpolate": "go from one picture, or sample, to another through the latent space",
    "denoise": "draw what a model's code keeps of noisy pictures",
    "anomalies": "rank images by how unlikely a model finds them",
    "classify": "tell test images apart by Bayes' rule, beside discriminative baselines",
    "latents": "draw a two-dimensional latent space and where each class lies in it",
    "restoration": "score inpainting and upscaling on held-out images",
    "diffuse": "show the forward process of an image and the reverse trajectory of samples",
    "runs": "list the runs with their scores",
    "filmstrip": "lay the samples of chosen epochs side by side",
    "likelihood": "bits per dimension, or nats, of held-out images",
    "average": "make averaged weights of another length, after training",
    "export": "write a run as a small zoo entry: config, averaged weights, scores, card",
    "ship": "write a classifier run as a feature network for scoring",
}
EXAMPLES = """\
examples:
  genai fit -c configs/digits/gan.yaml
  genai fit -c configs/mnist/gan.yaml -c configs/trainer/gpu.yaml --trainer.max_epochs 60
  genai test runs/mnist-gan/RUN
  genai sample zoo/mnist-gan --num 64 --out grid.png

A RUN is a run directory, an experiment (its newest run) or a zoo entry. `genai VERB --help` explains one verb."""


def help_text() -> str:
    """What `genai --help` prints."""
    lines = ["usage: genai VERB [options]", "", "Generative models, trained and measured the same honest way.", ""]
    for title, verbs in (("train and score", TRAINER_VERBS), ("look and share", OWN_VERBS)):
        lines += [f"{title}:", *(f"  {verb:<11} {text}" for verb, text in verbs.items()), ""]
    return "\n".join([*lines, EXAMPLES])


def run_verb(arguments: Sequence[str]) -> None:
    """Dispatch `arguments` (without the program's name); raises UserError for an unknown verb."""
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help", "help"):
        print(help_text())
    elif verb in ("-V", "--version"):
        print(f"genai {__version__}")
    elif verb in TRAINER_VERBS and (len(arguments) == 1 or arguments[1] in ("-h", "--help")):
        print(VERB_HELP[verb])
    elif verb in TRAINER_VERBS:
        importlib.import_module("genai.training.launch").run(verb, list(arguments[1:]))
    elif verb in OWN_VERBS:
        importlib.import_module(f"genai.cli.verbs.{verb}").run(list(arguments[1:]))
    else:
        close = difflib.get_close_matches(verb, [*TRAINER_VERBS, *OWN_VERBS], n=1)
        hint = f"did you mean `{close[0]}`?" if close else "`genai --help` lists the verbs."
        raise UserError(f"there is no verb `{verb}`: {hint}")


def mistake(error: BaseException | None) -> UserError | None:
    """The user's mistake that `error` is or wraps, as jsonargparse does with what a class refuses; None where it is another."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (2 for a user's mistake, printed as one line)."""
    keep_freed_memory()
    try:
        run_verb(sys.argv[1:] if arguments is None else arguments)
    except (UserError, ValueError) as error:
        refused = mistake(error)
        if refused is None:
            raise
        print(f"genai: {' '.join(str(refused).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        print("genai: interrupted", file=sys.stderr)
        return 130
    return 0
