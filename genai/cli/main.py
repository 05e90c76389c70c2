"""The command line: finds the verbs in verbs/ and runs one of them. A verb's module is imported only when it is called."""

import difflib
import errno
import importlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from genai import __version__
from genai.cli.memory import keep_freed_memory
from genai.cli.streams import print_any_text
from genai.errors import FORBIDDEN, FULL, NothingFound, Notice, UserError, user_error
from genai.terminal import visible

# Before torch is loaded: waiting threads sleep. By default libgomp's threads spin, which makes a training that shares its
# cores with another program several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

LONGEST_LINE = 1000  # characters of a message
NO_MEMORY = ("can't allocate memory", "out of memory", "Unable to allocate")  # in messages of torch and numpy
NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
GROUPS = ("train and score", "sample and edit", "inspect", "share")  # in the order of the help; others follow
EXAMPLES = """\
examples:
  genai fit -c digits/gan
  genai fit -c mnist/gan -c trainer/gpu
  genai test runs/mnist-gan/RUN
  genai sample zoo/mnist-gan --num 64 --out grid.png

RUN is a run directory, an experiment (its newest run) or a zoo entry.
`genai VERB --help` explains one verb."""


class Verb(NamedTuple):
    """A verb, its one-line help and its group in `genai --help`."""

    name: str
    help: str
    group: str

    @property
    def module(self) -> str:
        """The import path: genai.cli.verbs.export_features for `export-features`."""
        return f"genai.cli.verbs.{self.name.replace('-', '_')}"


def find_verbs(folder: Path = Path(__file__).parent / "verbs") -> dict[str, Verb]:
    """The verbs by name: one for each file in `folder`; export_features.py is `export-features`.

    A file's docstring is `genai NAME: HELP` and a line `Group: GROUP`. The files are read, not imported, so that `genai --help`
    is quick.
    """
    verbs = {}
    for path in sorted(folder.glob("[!_]*.py")):
        docstring = path.read_text("utf-8").split('"""', 2)[1:2]
        text = docstring[0] if docstring else ""
        help_line = re.match(r"genai \S+: (.+)", text)
        group = re.search(r"^Group: (.+)$", text, re.MULTILINE)
        name = path.stem.replace("_", "-")
        verbs[name] = Verb(name, help_line[1] if help_line else "", group[1] if group else "other verbs")
    return verbs


def help_text(verbs: dict[str, Verb]) -> str:
    """What `genai --help` prints."""
    lines = ["usage: genai VERB [options]", "", "Train, sample, edit and score generative models.", ""]
    groups = sorted({verb.group for verb in verbs.values()}, key=lambda name: (name not in GROUPS, (*GROUPS, name).index(name)))
    for group in groups:
        lines += [f"{group}:", *(f"  {verb.name:<16} {verb.help}" for verb in verbs.values() if verb.group == group), ""]
    return "\n".join([*lines, EXAMPLES])


def run_verb(arguments: Sequence[str]) -> None:
    """Run the verb that `arguments` (without the program's name) begin with; UserError for an unknown one."""
    name = arguments[0] if arguments else "--help"
    if name in ("-V", "--version"):
        print(f"genai {__version__}")
        return
    verbs = find_verbs()
    if name in ("-h", "--help", "help"):
        print(help_text(verbs))
    elif name in verbs:
        importlib.import_module(verbs[name].module).run(list(arguments[1:]))
    else:
        close = difflib.get_close_matches(name, verbs, n=1)
        hint = f"did you mean `{close[0]}`?" if close else "`genai --help` lists the verbs."
        raise UserError(f"there is no verb `{name}`: {hint}")


def check_folder() -> None:
    """Raise UserError where the current folder has been deleted: relative paths lead nowhere."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the current folder does not exist any more: cd into another one") from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, numpy or torch found no memory, on the CPU or on a GPU; jsonargparse wraps those of constructors."""
    return isinstance(error, MemoryError) or any(word in str(error) for word in NO_MEMORY)


def no_memory(error: BaseException) -> str:
    """What to say of an error of `is_out_of_memory`."""
    reason = next((line for line in str(error).splitlines() if any(word in line for word in NO_MEMORY)), type(error).__name__)
    return f"out of memory ({reason.strip(' -')[:200]}): ask for less at once, or use a smaller model"


def print_error(text: str) -> None:
    """Print a message as one line on standard error; what would steer the terminal, or is very long, is left out."""
    line = " ".join(text.split())
    line = line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ..."
    print(f"genai: {visible(line)}", file=sys.stderr)


@contextmanager
def notices_last() -> Iterator[None]:
    """Print each Notice once, after the results of the block, if it raises nothing."""
    notices: dict[str, None] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("always", Notice)
        show = warnings.showwarning

        def keep(message: Warning | str, category: type[Warning], *where: Any) -> None:
            if issubclass(category, Notice):
                notices[str(message)] = None
            else:
                show(message, category, *where)

        warnings.showwarning = keep  # type: ignore[assignment]
        yield
    for notice in notices:
        print_error(notice)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 2 for a user's mistake, printed as one line; 1 where nothing was found."""
    keep_freed_memory()
    print_any_text()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where it cannot write its cache, for one
    try:
        check_folder()
        with notices_last():
            run_verb(sys.argv[1:] if arguments is None else arguments)
    except (UserError, ValueError) as error:
        mistake = user_error(error)
        if mistake is None and not is_out_of_memory(error):
            raise
        print_error(str(mistake or no_memory(error)))
        return 2
    except (BrokenPipeError, NothingFound):
        return 1
    except OSError as error:  # of a library, such as a tracker's; our own writes raise a WriteError
        if error.errno not in (*FULL, *FORBIDDEN, *NO_PATH):
            raise
        advice = "check the path" if error.errno in NO_PATH else "choose a place that you can read and write"
        advice = "free some space" if error.errno in FULL else advice
        print_error(f"{error.filename or 'standard output, or a file,'} cannot be used ({error.strerror}): {advice}")
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print_error(no_memory(error))
        return 2
    except KeyboardInterrupt:
        print_error("interrupted")
        return 130
    return 0
