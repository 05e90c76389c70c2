"""Where a verb writes: --out, or a new file in RUN/samples. Only --force overwrites a file."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from genai.cli.options.arguments import Options, VerbParser
from genai.cli.options.run import LoadedRun
from genai.errors import UserError
from genai.files import NewPath, check_writable
from genai.images import ANIMATIONS, grid, save_animation, save_png, to_uint8
from genai.runs import Run
from genai.runs.signature import is_own

MOTION = "the PNG to write, or an animation that ends in .gif or .webp"


@dataclass(frozen=True)
class OutputOptions(Options):
    """--out and --force."""

    out: str | None = None
    force: bool = False

    @staticmethod
    def add_to(parser: VerbParser, what: str = "the PNG to write", more: str = "") -> None:
        """Add the options; `what` describes --out in the help, `more` stands at the end."""
        group = parser.add_argument_group("output")
        default = f"a new file in RUN/samples (zoo entry: in the current folder){more}"
        group.add_argument("--out", metavar="PATH", help=f"{what}; default: {default}")
        group.add_argument("--force", action="store_true", help="overwrite --out")

    def path(self, default: Path) -> Path:
        """The path that --out names, or the first free name like `default`.

        Raises:
            UserError: --out exists, without --force.
        """
        if self.out is None:
            return free_path(default)
        return checked(Path(self.out), self.force)

    def png(self, run: Run, name: str) -> Path:
        """The PNG to write; `name` is the stem of the default.

        Raises:
            UserError: --out exists or does not end in .png.
        """
        path = self.path(default_path(run, f"{name}.png"))
        if path.suffix != ".png" or path.is_dir():
            raise UserError(f"--out {path} should be the name of a file that ends in .png")
        return path

    def picture(self, run: Run, name: str) -> Path:
        """The PNG, GIF or WebP to write; `name` is the stem of the default, a PNG.

        Raises:
            UserError: --out exists, or has another ending.
        """
        path = self.path(default_path(run, f"{name}.png"))
        if path.suffix not in (".png", *ANIMATIONS) or path.is_dir():
            raise UserError(
                f"--out {path} should be the name of a file that ends in .png, or in .gif or .webp for an animation"
            )
        return path

    def table_and_picture(self, run: Run, name: str) -> tuple[Path, Path]:
        """The CSV to write and the PNG beside it; `name` is the stem of the defaults.

        Raises:
            UserError: one of them exists, or --out does not end in .csv.
        """
        table = self.path(default_path(run, f"{name}.csv"))
        if table.suffix != ".csv":
            raise UserError(f"--out {table} should end in .csv; the picture is written beside it as {table.stem}.png")
        return table, checked(table.with_suffix(".png"), self.force)


def default_path(run: Run, name: str) -> Path:
    """RUN/samples/NAME; for a zoo entry, which is read-only, ENTRY-NAME in the current folder.

    Raises:
        UserError: RUN/samples of a run from elsewhere is a link that leads out of it.
    """
    samples = run.path / "samples"
    if samples.is_symlink() and not samples.resolve().is_relative_to(run.path.resolve()) and not is_own(run.path):
        raise UserError(f"{samples} is a link that leads out of {run.path}: remove it, or choose --out")
    return Path(f"{run.full_path.name}-{name}") if run.is_exported else run.path / "samples" / name


def checked(path: Path, force: bool) -> Path:
    """The path to write to; without `force` it has to be new, now and when it is written.

    Raises:
        UserError: it is a file or a folder that is not empty, and `force` is not set.
        WriteError: its folder cannot be written.
    """
    check_writable(path)
    if force:
        return Path(path)
    if any(path.iterdir()) if path.is_dir() else os.path.lexists(path):
        raise UserError(f"{path} exists: choose another --out, or add --force")
    return NewPath(path)


def free_path(path: Path) -> NewPath:
    """`path`, with the smallest number appended that makes it and a PNG of its name new; WriteError
    where its folder cannot be written.
    """
    candidate, count = NewPath(path), 1
    while os.path.lexists(candidate) or os.path.lexists(candidate.with_suffix(".png")):
        candidate = NewPath(path).with_stem(f"{path.stem}-{count}")
        count += 1
    check_writable(candidate)
    return candidate


def write_tiles(path: Path, tiles: Tensor, columns: int, source: LoadedRun, metadata: Mapping[str, str]) -> None:
    """Write images (N, C, H, W) in [-1, 1] row by row, and print the path.

    A PNG is a grid of `columns` columns; frame k of an animation shows column k of all rows.
    """
    about = {"Model": type(source.model).__name__, "Run": source.run.name, **metadata}
    if path.suffix in ANIMATIONS:
        save_animation([grid(to_uint8(own)) for own in tiles.unflatten(0, (-1, columns)).unbind(dim=1)], path, about)
    else:
        save_png(grid(to_uint8(tiles), columns), path, about)
    print(f"wrote {path}")
