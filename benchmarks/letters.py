"""Printed letters as outliers for models of MNIST: 300 pictures of 28 pixels, in the fonts that come with matplotlib.

python benchmarks/letters.py letters/ && genai anomalies zoo/mnist-vae letters/
"""

import random
import sys
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

LETTERS = "ABCDEFGHKMNPQRTUVWXYabdeghkmnr"  # none that looks like a digit
NUM, SIDE, LARGER = 300, 28, 4


def letter(character: str, font: Path, size: int, degrees: float) -> Image.Image:
    """White on black, drawn four times larger than it will be, turned by `degrees`."""
    image = Image.new("L", (LARGER * SIDE, LARGER * SIDE))
    middle = LARGER * SIDE / 2
    ImageDraw.Draw(image).text((middle, middle), character, 255, font=ImageFont.truetype(font, size), anchor="mm")
    return image.rotate(degrees).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def main() -> None:
    """Write them into a new folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    fonts = sorted((Path(matplotlib.get_data_path()) / "fonts/ttf").glob("DejaVu*.ttf"))
    chance = random.Random(0)
    for i in range(NUM):
        character, font = chance.choice(LETTERS), chance.choice(fonts)
        image = letter(character, font, chance.randint(70, 92), chance.uniform(-12, 12))
        image.save(folder / f"{i:03}-{character}.png")


if __name__ == "__main__":
    main()
