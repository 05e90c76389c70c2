"""Which files are pictures: by their ending or, for other endings and none, by their first bytes."""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import PurePosixPath

from PIL import Image, features

HAS_HEIF = find_spec("pillow_heif") is not None
if HAS_HEIF:
    import_module("pillow_heif").register_heif_opener()

Image.init()
RASTER = "AVIF BMP DDS DIB GIF HEIF ICNS ICO JPEG JPEG2000 PCX PNG PPM PSD QOI SGI TGA TIFF WEBP"
FORMATS = [name for name in RASTER.split() if name in Image.OPEN]  # not EPS and WMF, which start other programs
COMMON = (".jpg", ".png", ".webp", ".tif", ".bmp", ".gif")
HEIF_ENDINGS, AVIF_ENDINGS = (".heic", ".heif", ".hif"), (".avif", ".avifs")
PILLOW_ENDINGS = (
    ".apng .bmp .dds .dib .gif .icns .ico .j2k .jfif .jp2 .jpe .jpeg .jpf .jpg .jpx .mpo .pbm .pcx .pfm .pgm .pjpeg "
    ".png .pnm .ppm .psd .qoi .sgi .tga .tif .tiff .webp"
)
ENDINGS = {
    *PILLOW_ENDINGS.split(),
    *(HEIF_ENDINGS if HAS_HEIF else ()),
    *(AVIF_ENDINGS if features.check("avif") or HAS_HEIF else ()),
}
RAW = ".arw .cr2 .cr3 .dng .nef .nrw .orf .pef .raf .raw .rw2 .sr2 .srw .thm"  # Pillow reads their previews alone
COPIES = "~ .bak .crdownload .download .old .orig .part .partial .swp .tmp"  # or parts of a file
OTHER = (*RAW.split(), *COPIES.split())
HEAD_BYTES = 32
SIGNATURES = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",  # JPEG
    b"GIF87a",
    b"GIF89a",
    b"II*\0",  # TIFF
    b"MM\0*",
    b"\0\0\0\x0cjP  \r\n\x87\n",  # JPEG 2000
    b"\xff\x4f\xff\x51",
    b"qoif",
    b"8BPS\0\x01",  # PSD
    b"DDS |\0\0\0",
)
HEIF_BRANDS, AVIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), (b"avif", b"avis")


def has_picture_ending(name: str) -> bool:
    """Whether the ending is one of a picture that can be read."""
    return PurePosixPath(name).suffix.lower() in ENDINGS


def is_picture(name: str, head: bytes) -> bool:
    """Whether a file is a picture that can be read, by its name and its first HEAD_BYTES bytes."""
    if has_picture_ending(name):
        return True
    if name.lower().endswith(OTHER):
        return False
    if is_heif(head):
        return HAS_HEIF
    if is_avif(head):
        return ".avif" in ENDINGS
    if head[:2] == b"BM":
        return head[6:10] == bytes(4)  # reserved; text may start with BM, too
    if head[:1] == b"P" and head[1:2] in b"123456":
        return head[2:3].isspace() and (head[3:4].isdigit() or head[3:4] == b"#")
    return head.startswith(SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def is_heif(head: bytes) -> bool:
    """Whether the first bytes are those of a HEIC or HEIF picture."""
    return head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS


def is_avif(head: bytes) -> bool:
    """Whether the first bytes are those of an AVIF picture."""
    return head[4:8] == b"ftyp" and head[8:12] in AVIF_BRANDS


def ending_of(name: str) -> str:
    """The ending in lower case; `without ending` if there is none."""
    return PurePosixPath(name).suffix.lower() or "without ending"


def describe_ignored(ignored: Mapping[str, int], most: int = 5) -> str:
    """`95 .heic, 3 .txt` and, for formats that need it, the package to install."""
    ranked = sorted(ignored.items(), key=lambda item: (-item[1], item[0]))
    text = ", ".join(f"{count:,} {ending}" for ending, count in ranked[:most])
    if ranked[most:]:
        text += f" and {sum(count for _, count in ranked[most:]):,} of {len(ranked) - most} other endings"
    needs_plugin = any(ending in (*HEIF_ENDINGS, *AVIF_ENDINGS) for ending in ignored)
    return f"{text} (pip install pillow-heif to read HEIC and AVIF)" if needs_plugin else text
