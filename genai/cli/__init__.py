"""The command line.

main.py: finds the verbs and runs one.
verbs/: one file for each verb; adding a file adds a verb.
options/: option groups and parsing that several verbs share.
trainer_help.py: the help of fit, validate, test and predict.
text_sampling.py: `genai sample` of text.
streams.py: standard output of any encoding.
memory.py: how the process keeps freed memory.
"""

from genai.cli.main import main

__all__ = ["main"]
