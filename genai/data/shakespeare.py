"""Tiny Shakespeare: 1,115,394 characters of Shakespeare's plays, the corpus of char-rnn and nanoGPT."""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from genai.data.cache import lock
from genai.data.module import data_roots
from genai.data.text import TextDataModule
from genai.data.text_reading import file_identity, read_text
from genai.data.token_cache import Documents, TextDocument
from genai.errors import UserError
from genai.files import write_atomically

FILE = Path("tinyshakespeare/input.txt")
URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
NETWORK_TIMEOUT = 5.0  # seconds
VAL_SHARE = 0.1


class Shakespeare(TextDataModule):
    """Tiny Shakespeare, split by position as in nanoGPT: the first 90 % are train, the last 111,540 characters are val.

    There is no test split: `test` is the validation split, as in all published results. Choose settings on another corpus, or
    count the score as one on validation data. The file is read from `<root>/tinyshakespeare/input.txt` or downloaded.
    """

    name = "shakespeare"

    def file(self) -> Path:
        """The file, downloaded if no root has it.

        Raises:
            UserError: it cannot be downloaded.
        """
        roots = data_roots(self.root)
        for root in roots:
            for path in (root / FILE, root / FILE.name):
                if path.is_file():
                    return path
        path = roots[0] / FILE
        try:
            with lock("tinyshakespeare-download"), urllib.request.urlopen(URL, timeout=NETWORK_TIMEOUT) as answer:
                content = answer.read()
        except (OSError, urllib.error.URLError) as error:
            raise UserError(
                f"tiny Shakespeare is not in {', '.join(map(str, roots))} and could not be downloaded ({error}): put {URL} "
                f"at {path}, or set GENAI_DATA; PyDocs needs no download"
            ) from None
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise UserError(f"the download of {URL} has another content than tiny Shakespeare: put the file at {path}")
        write_atomically(path, content)
        return path

    def source(self) -> Any:
        return [row[1:] for row in file_identity([self.file()])]

    def documents(self) -> Documents:
        path = self.file()
        text = read_text(path)
        start = int(len(text) * (1 - VAL_SHARE))
        train, val = TextDocument("tinyshakespeare", text[:start]), TextDocument("tinyshakespeare", text[start:])
        return {"train": [train], "val": [val], "test": [val]}
