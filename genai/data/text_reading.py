"""Reading text files: one line for an empty or binary file, a wrong encoding or a missing column."""

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from genai.data.token_cache import TextDocument
from genai.errors import UserError

HINT = "convert it, for example with `iconv -f latin1 -t utf-8`"


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, also .gz, with \\n at the end of each line.

    Raises:
        UserError: it cannot be read, is empty, binary or not UTF-8.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): copy or download it again") from None
    return decode_text(content, path)


def decode_text(content: bytes, path: Path) -> str:
    """`read_text` for the bytes of a file."""
    if not content.strip():
        raise UserError(f"{path} is empty: put text into it, or leave it out")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{path} is UTF-16: convert it, for example with `iconv -f utf-16 -t utf-8`")
    if b"\0" in content:
        raise UserError(f"{path} is binary (byte {content.index(0):,} is 0): name a text file in UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: byte {error.start:,} is 0x{content[error.start]:02x}; {HINT}") from None
    return with_line_feeds(text)


def with_line_feeds(text: str) -> str:
    """\\n at the end of each line, for \\r\\n and \\r."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json_lines(path: Path, field: str) -> Iterator[TextDocument]:
    """A document for each line of a .jsonl file, from one field of its object.

    Raises:
        UserError: a line is not a JSON object or lacks the field.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}, is not JSON ({error}): write one object on each line") from None
        text = content.get(field) if isinstance(content, dict) else None
        if not isinstance(text, str):
            there = ", ".join(content) if isinstance(content, dict) else type(content).__name__
            raise UserError(f"{path}, line {number}, has no text in {field!r} (there: {there}): set data.init_args.field")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{path}, line {number}, has half a character ({error.reason}) in {field!r}: remove it") from None
        if text.strip():
            yield TextDocument(f"{path.name}:{number}", with_line_feeds(text))


def read_columns(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The rows of a CSV file, with these columns in this order.

    Raises:
        UserError: a column is missing, or there are no rows.
    """
    text = read_text(path)
    csv.field_size_limit(max(len(text), 131_072))  # a quote that is not closed is found below
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[str, ...]] = []
    try:
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            there = ", ".join(reader.fieldnames or ())[:80]
            raise UserError(
                f"{path} has no column {missing[0]!r} (there: {there}): give it a first line with {','.join(columns)}"
            )
        for row in reader:
            if None in row:  # the values that have no column
                raise UserError(
                    f"{path}, line {reader.line_num}, has more values than columns: put texts with commas in quotes"
                )
            rows.append(tuple(row[name] or "" for name in columns))
    except csv.Error as error:
        line = reader.line_num
        raise UserError(f"{path}, line {line}, is not CSV ({error}): close its quotes, and double those in a text") from None
    if not rows:
        raise UserError(f"{path} has a header and no rows: add some")
    return rows


def file_identity(files: Sequence[Path]) -> list[list[object]]:
    """[[name, bytes, time in ns], ...] of files, to detect a change."""
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
