"""YAML of a run: plain values alone, and of a bounded size."""

import math
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

from genai.errors import UserError

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
        UserError: it is not valid YAML, an alias refers to itself, or it is too large.
    """
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"{source} has more than {MAX_CHARACTERS:,} characters: it is no config of a run")
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if expanded_size(node, {}) > MAX_VALUES:
            raise UserError(f"{source} refers to itself, or has more than {MAX_VALUES:,} values: it is no config of a run")
        return plain(loader.construct_document(node), source)
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{source} is not valid YAML: {reason[:200]}") from None
    except RecursionError:
        raise UserError(f"{source} is nested too deeply: it is no config of a run") from None
    finally:
        if loader is not None:
            loader.dispose()


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
    """A copy of `value` without shared parts; UserError for dates, sets and other values that a config has no use for."""
    if depth > MAX_DEPTH:
        raise UserError(f"{source} is nested too deeply: it is no config of a run")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str | int):
                raise UserError(f"{source} has the key {key!r}, which is no name")
        return {key: plain(entry, source, depth + 1) for key, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry, source, depth + 1) for entry in value]
    if isinstance(value, PLAIN):
        return value
    raise UserError(f"{source} has a {type(value).__name__}, which is no value of a config")
