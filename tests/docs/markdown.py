"""What the tests of the documents read from Markdown: fenced blocks, commands, links, headings."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A fenced code block."""

    language: str
    text: str


def blocks(text: str) -> list[Block]:
    """All fenced blocks, in order."""
    return [Block(*match.groups()) for match in FENCE.finditer(text)]


def prose(text: str) -> str:
    """The page without fenced blocks."""
    return FENCE.sub("", text)


def commands(text: str) -> list[list[str]]:
    """The arguments of each `genai ...` or `cli.py ...` command in indented lines, bash blocks and code spans.

    Continued lines are joined; `&&` and `;` separate commands; comments and what stands before `genai` are removed; a shell
    variable is replaced by 1.
    """
    bash = "\n".join(block.text for block in blocks(text) if block.language == "bash")
    rest = prose(text)
    indented = "\n".join(line.strip() for line in rest.splitlines() if line.startswith("    "))
    spans = "\n".join(" ".join(span.split()) for span in re.findall(r"(?<!`)`((?:genai|OMP_)[^`]*)`", rest))
    found = []
    for line in f"{bash}\n{indented}\n{spans}".replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|;", re.sub(r"(^|\s)#.*", "", line)):
            match = re.search(r"(?:^|\s)(?:genai|cli\.py)\s+(.*)", part)
            if match and ("fit -c" in part or part.strip().startswith(("genai", "srun", "torchrun", "OMP_"))):
                found.append(shlex.split(re.sub(r"\$\w+", "1", match[1]).replace("...", "")))
    return found


def anchors(text: str) -> set[str]:
    """GitHub's anchors of the headings."""
    titles = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
