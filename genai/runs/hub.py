"""Zoo entries on the Hugging Face hub: `genai push` uploads one, `hf://user/name` names one wherever a run is named."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.parse import quote

from genai.errors import UserError
from genai.escaping import code, literal, literals, one_line
from genai.files import cache_folder, write_atomically
from genai.metrics.registry import all_metrics, text_metrics
from genai.metrics.text import TextProtocol
from genai.runs.directory import Run
from genai.runs.export import FILES, complete, describe_protocol, read_shared

PREFIX = "hf://"
Result = TypeVar("Result")

CARD = """\
---
{header}
---

# {repository}

{model} that generates {what} of {data}, trained with genai {version}. All its samples are synthetic {what}.

## Use

    genai sample hf://{repository} {options}

This needs genai {version}, installed from its repository: the package `genai` on PyPI is another program.

```python
import genai

{python}
```

## Scores

| metric | model | floor ({floor}) |
|---|---|---|
{rows}

Protocol: {protocol}.

## Data and licence

Trained on {data}: {images_seen:,} {unit} seen, with {command}. {terms}

## Intended use

Teaching and research on generative models. The model reproduces the biases of {data}. It is not meant for deciding about
people, and its {what} should be marked as synthetic.
"""


def push(run: Run, repository: str, licence: str, terms: str, private: bool) -> str:
    """Upload a zoo entry with a model card to the hub; returns its address.

    Args:
        run: the zoo entry.
        repository: `user/name`; it is created if it does not exist.
        licence: of the weights, as the hub names it, such as `mit`.
        terms: of the data, one or two sentences of the card.
        private: of a new repository.

    Raises:
        UserError: the entry has no scores, or the hub cannot be reached or refuses.
    """
    check_name(repository)
    if "test" not in run.scores():
        raise UserError(f"{run.path} has no test scores for its card: run `genai test {run.path}` first")
    hub = imported()
    api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    with complete(run.path):
        card = hub_card(run, repository, licence, terms)
    with TemporaryDirectory() as temporary:
        write_atomically(Path(temporary) / "README.md", card)
        for name in FILES:
            if name != "README.md" and (run.path / name).is_file():
                (Path(temporary) / name).write_bytes(read_shared(run.path / name))
        earlier = [name for name in FILES if not (Path(temporary) / name).is_file()]  # may be there, of other weights
        attempt(lambda: api.create_repo(repository, private=private, exist_ok=True), repository, "pushed to")
        message = f"{run.name}, from genai"
        attempt(
            lambda: api.upload_folder(
                repo_id=repository, folder_path=temporary, commit_message=message, delete_patterns=earlier
            ),
            repository,
            "pushed to",
        )
    return f"{PREFIX}{repository}"


def download(name: str) -> Run:
    """The zoo entry `hf://user/name` or `hf://user/name@revision`, downloaded to the cache folder.

    Raises:
        UserError: the name is malformed, the repository holds no zoo entry, or the hub cannot be reached.
    """
    repository, _, revision = name.removeprefix(PREFIX).partition("@")
    check_name(repository)
    folder = cache_folder() / "hub" / (f"{repository}@{quote(revision, safe='')}" if revision else repository)
    options: dict[str, Any] = {"revision": revision or None, "local_dir": folder, "allow_patterns": list(FILES)}
    options["endpoint"] = os.environ.get("HF_ENDPOINT")
    hub = imported()
    attempt(lambda: hub.snapshot_download(repository, **options), repository, "read from")
    missing = [file for file in ("config.yaml", "run.json", "weights.safetensors") if not (folder / file).is_file()]
    if missing:
        raise UserError(f"{PREFIX}{repository} is not a zoo entry of genai: it has no {missing[0]}")
    return Run(folder)


def check_name(repository: str) -> None:
    """Raise UserError unless `repository` is `user/name`."""
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repository) or ".." in repository:
        raise UserError(f"{repository!r} is not a name of a repository: use user/name")


def imported() -> Any:
    """The module huggingface_hub; UserError if it is not installed."""
    try:
        import huggingface_hub
    except ImportError:
        raise UserError('the hub needs huggingface_hub: pip install "genai[hub]"') from None
    return huggingface_hub


def attempt(action: Callable[[], Result], repository: str, what: str) -> Result:
    """Run `action`; what the hub's client raises (its own errors and those of its HTTP library) becomes a UserError."""
    try:
        return action()
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403, 404):
            raise UserError(
                f"{repository} cannot be {what} the hub ({status}): check its name, and log in with `hf auth login`"
            ) from None
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".rstrip(": ")
        raise UserError(f"{repository} cannot be {what} the hub ({reason}): check the network, then try again") from None


def hub_card(run: Run, repository: str, licence: str, terms: str) -> str:
    """The model card, Markdown with the hub's header: licence, library, task, tags, dataset and scores."""
    from huggingface_hub import EvalResult, ModelCardData

    record, test = run.record(), run.scores()["test"]
    data, protocol = one_line(record["data"]), test["protocol"]
    is_text = "tokenizer" in protocol
    metrics = [metric for metric in (text_metrics() if is_text else all_metrics()) if metric.name in test["scores"]]
    cells = [(metric.heading, *(metric.text(test[part], with_std=True) for part in ("scores", "floor"))) for metric in metrics]
    images_task = "text-to-image" if record.get("label_kind") == "text" else "unconditional-image-generation"
    task = "text-generation" if is_text else images_task
    kind = f"{protocol['tokenizer']} tokens" if is_text else f"features of {Path(protocol['features']).name}"
    kind = one_line(kind)
    results = [
        EvalResult(
            task_type=task,
            dataset_type=data,
            dataset_name=data,
            dataset_split=one_line(protocol["split"]),
            metric_type=metric.name,
            metric_value=test["scores"][metric.name],
            metric_name=f"{metric.title}, {kind}",
        )
        for metric in metrics
    ]
    header = ModelCardData(
        license=licence,
        library_name="genai",
        pipeline_tag=task,
        tags=["generative", one_line(record["model"]).lower(), data],
        datasets=[data] if data == "mnist" else None,
        model_name=repository.partition("/")[2],
        eval_results=results,
    ).to_yaml()
    return CARD.format(
        header=header.strip(),
        repository=repository,
        rows="\n".join(f"| {' | '.join(row)} |" for row in cells),
        terms=terms,
        model=literal(record["model"]),
        data=literal(data),
        version=literal(record["versions"]["genai"]),
        images_seen=test["images_seen"],
        command=code(record["command"]),
        protocol=TextProtocol(**literals(protocol)).describe() if is_text else describe_protocol(protocol, data),
        **(words_of_text(repository) if is_text else words_of_images(repository, record["image_shape"])),
    )


def words_of_images(repository: str, shape: Sequence[int]) -> dict[str, str]:
    """What the card of a model of images says: how to run it in the shell and in Python, and what it generates."""
    return {
        "what": "images",
        "unit": "images",
        "floor": "real against real",
        "options": "--num 64 --out grid.png",
        "python": f'images = genai.sample("hf://{repository}", num=64)  # (64, {", ".join(map(str, shape))}) in [-1, 1]',
    }


def words_of_text(repository: str) -> dict[str, str]:
    """The same of a model of text."""
    return {
        "what": "texts",
        "unit": "tokens",
        "floor": "real text",
        "options": "--num 3 --tokens 300",
        "python": f'model = genai.load("hf://{repository}")\ntokens = model.sample(range(3), num_tokens=300)  # (3, 300) int64',
    }
