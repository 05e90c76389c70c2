"""The run directory.

directory.py   names, creates and finds runs; reads run.json, config.yaml and metrics.json
loading.py     from a run to its model
data.py        from a run to its data module
text.py        the tokenizer of a run, prompts, samples of text
export.py      from a run to a zoo entry
onnx.py        from a run to an ONNX graph
graphs.py      models as graphs that torch can trace
hub.py         zoo entries on the Hugging Face hub
files.py       JSON files, written whole or not at all
terms.py       what the terms of datasets say of models trained on them
redaction.py   secrets and paths, which do not leave this machine
trust.py       what the config of a run from elsewhere may name
places.py      where such a run may read and write
yaml_files.py  YAML of plain values and bounded size
signature.py   which runs are this user's own
"""

from genai.runs.directory import FORMAT, REPOSITORY, TIME, Run, all_runs, create, find, is_run, load, runs_folder
from genai.runs.files import merge_json, write_json

__all__ = [
    "FORMAT",
    "REPOSITORY",
    "TIME",
    "Run",
    "all_runs",
    "create",
    "find",
    "is_run",
    "load",
    "merge_json",
    "runs_folder",
    "write_json",
]
