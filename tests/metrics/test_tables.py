"""Tables fit the width of the terminal, and never truncate a cell."""

import re

import pytest
from rich.console import Console

from genai.metrics.tables import WrappedTable

NAME = "digits-diffusion/2026-11-21_21-17-04-12"
COLUMNS = ["run", "split", *(f"metric {i} ↓" for i in range(12))]
ROWS = [[NAME, "test", *(f"{i}.123 (0.456)" for i in range(12))], ["zoo/mnist-gan", "test *", *[""] * 12]]


def rendered(table: WrappedTable, width: int, terminal: bool = True) -> list[str]:
    console = Console(width=width, force_terminal=terminal, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("width", [60, 80, 100, 300])
def test_every_cell_is_whole_and_every_line_fits(width, terminal):
    lines = rendered(WrappedTable(COLUMNS, ROWS, title="Runs", caption="a caption"), width, terminal)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for cell in (*COLUMNS, *ROWS[0]):
        assert cell in text
    assert not re.search("…", text)


def test_columns_that_do_not_fit_follow_under_the_first_column():
    assert len(WrappedTable(COLUMNS, ROWS).bands(300)) == 1
    bands = WrappedTable(COLUMNS, ROWS).bands(80)
    assert all(band[0] == 0 for band in bands)
    assert [number for band in bands for number in band[1:]] == list(range(1, 14))
    assert sum(NAME in line for line in rendered(WrappedTable(COLUMNS, ROWS), 80)) == len(bands)


def test_a_name_wider_than_the_terminal_is_wrapped_whole():
    lines = rendered(WrappedTable(["run", "split"], [[NAME, "test"]]), 30)
    assert max(map(len, lines)) <= 30
    assert NAME in "".join(line.split("  ")[0].strip() for line in lines)


def test_in_a_pipe_there_is_no_box():
    text = "\n".join(rendered(WrappedTable(COLUMNS, ROWS, caption="a caption"), 80, terminal=False))
    assert not re.search("[─│┃━]", text)
