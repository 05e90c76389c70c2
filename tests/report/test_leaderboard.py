"""The leaderboard is generated from the zoo and up to date."""

import re

from genai.report.leaderboard import TARGET, entries, leaderboard, main
from genai.runs import REPOSITORY
from genai.shipped import preset_name

ZOO = REPOSITORY / "zoo"


def test_the_page_is_up_to_date() -> None:
    assert TARGET.read_text() == leaderboard(ZOO), "run `python -m genai.report.leaderboard`"


def test_every_entry_stands_in_it_once_with_its_preset() -> None:
    page = leaderboard(ZOO)
    for path in ZOO.iterdir():
        assert page.count(f"| [zoo/{path.name}](") == 1
    for entry in entries(ZOO):
        assert (REPOSITORY / f"configs/{preset_name(entry.record['command'])}.yaml").is_file()
        assert re.search(rf"zoo/{entry.run.path.name}\]\S+ \| {preset_name(entry.record['command'])} \|", page)


def test_entries_of_one_protocol_are_sorted_by_fid_and_the_best_is_bold() -> None:
    mnist = [entry for entry in entries(ZOO) if entry.protocol.data == "mnist"]
    fids = [entry.test["scores"]["fid"] for entry in mnist]
    assert fids == sorted(fids)
    assert f"| **{fids[0]:.4g}** |" in leaderboard(ZOO)


def test_it_writes_the_file(tmp_path) -> None:
    main([str(tmp_path / "new/page.md")])
    assert (tmp_path / "new/page.md").read_text() == leaderboard(ZOO)
