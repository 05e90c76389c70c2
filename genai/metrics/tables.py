"""Tables of scores that fit the terminal: columns that do not fit follow below, under the first column again."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

GAP = 2  # spaces between columns


@dataclass(frozen=True)
class WrappedTable:
    """A table that is never truncated: it is split into as many tables as the width needs, each with the first column.

    Attributes:
        columns: the headings.
        rows: a cell for each heading.
        title: above the first table.
        caption: below the last one.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    caption: str = ""

    def widths(self) -> list[int]:
        """The widest cell of each column, heading included."""
        return [max(map(cell_len, cells)) for cells in zip(self.columns, *self.rows, strict=True)]

    def bands(self, width: int) -> list[list[int]]:
        """Numbers of the columns of each table; a column that is too wide even so has a table of its own."""
        first, *others = self.widths()
        bands: list[list[int]] = []
        room = -1
        for number, own in enumerate(others, start=1):
            if own + GAP > room:
                bands.append([0])
                room = width - first - GAP
            bands[-1].append(number)
            room -= own + GAP
        return bands or [[0]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(self.title, style="bold")
        for position, band in enumerate(self.bands(options.max_width)):
            if position:
                yield Text("")
            box, padding = (SIMPLE_HEAD, GAP - 1) if console.is_terminal else (None, GAP)  # the box adds a space
            table = Table(box=box, show_edge=False, pad_edge=False, padding=(0, padding, 0, 0))
            for number in band:
                table.add_column(self.columns[number], justify="right" if number else "left", overflow="fold")
            for row in self.rows:
                table.add_row(*(Text(row[number]) for number in band))
            yield table
        if self.caption:
            yield Text(self.caption, style="dim")
