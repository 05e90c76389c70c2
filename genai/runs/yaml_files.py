"""YAML of a run: plain values alone, and of a bounded size."""

import math
import re
from itertools import accumulate
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from genai.errors import DamagedFileError
from genai.terminal import visible

MAX_CHARACTERS = 1_000_000
MAX_VALUES = 100_000  # after aliases are expanded
MAX_DEPTH = 50
PLAIN = (str, int, float, bool, type(None))


def parse_yaml(text: str, source: object) -> Any:
    """The content of a YAML text: dicts with str or int keys, lists, and plain values.

    Aliases may refer to what stands before them, as long as the whole stays small; every dict and list is an object of its own.

    Args:
        text: the YAML.
        source: what error messages call it.

    Raises:
        DamagedFileError: it is not valid YAML, an alias refers to itself, a key stands twice, or it is too large.
    """
    return plain(parse_bounded(text, source), source)


def parse_bounded(text: str, source: object) -> Any:
    """The content of a YAML text with whatever values PyYAML's safe loader makes; see `parse_yaml`."""
    if len(text) > MAX_CHARACTERS:
        raise DamagedFileError(f"{source} has more than {MAX_CHARACTERS:,} characters: it is not a config of a run")
    levels = accumulate(1 if bracket in "[{" else -1 for bracket in re.findall(r"[][{}]", text))
    if max(levels, default=0) > 10 * MAX_DEPTH:  # PyYAML takes long to find out
        raise DamagedFileError(f"{source} is nested too deeply: it is not a config of a run")
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if expanded_size(node, {}) > MAX_VALUES:
            raise DamagedFileError(
                f"{source} refers to itself, or has more than {MAX_VALUES:,} values: it is not a config of a run"
            )
        if twice := duplicate_key(node):
            raise DamagedFileError(
                f"{source} has the key {twice.value} twice, the second time in line {twice.start_mark.line + 1}: keep one"
            )
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DamagedFileError(f"{source} is not valid YAML: {reason[:200]}") from None
    except RecursionError:
        raise DamagedFileError(f"{source} is nested too deeply: it is not a config of a run") from None
    finally:
        if loader is not None:
            loader.dispose()


def duplicate_key(node: Node) -> ScalarNode | None:
    """A key that stands twice in one dict, below `node` or in it; PyYAML would take the last value and drop the others."""
    children: list[Node] = node.value if isinstance(node, SequenceNode) else []
    if isinstance(node, MappingNode):
        children = [value for _, value in node.value]
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, ScalarNode)):
            if (key.tag, key.value) in seen:
                return key
            seen.add((key.tag, key.value))
    return next(filter(None, map(duplicate_key, children)), None)


def expanded_size(node: Node, known: dict[int, float]) -> float:
    """The number of nodes below and with `node` once aliases are expanded; infinite where an alias refers to itself."""
    if id(node) not in known:
        known[id(node)] = math.inf  # stays so while the node's own children are counted
        children: list[Node] = []
        if isinstance(node, MappingNode):
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, SequenceNode):
            children = node.value
        known[id(node)] = 1 + sum(expanded_size(child, known) for child in children)
    return known[id(node)]


def plain(value: Any, source: object, depth: int = 0) -> Any:
    """A copy of `value` without shared parts; DamagedFileError for dates, sets and other values that no config has."""
    if depth > MAX_DEPTH:
        raise DamagedFileError(f"{source} is nested too deeply: it is not a config of a run")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str | int) or str(key) != visible(str(key)):
                raise DamagedFileError(f"{source} has the key {key!r}, which is not a name")
        return {key: plain(entry, source, depth + 1) for key, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry, source, depth + 1) for entry in value]
    if isinstance(value, str) and value != visible(value):
        raise DamagedFileError(f"{source} has a control character in {value[:80]!r}: remove it")
    if isinstance(value, PLAIN):
        return value
    raise DamagedFileError(f"{source} has a {type(value).__name__}, which is not a value of a config")
