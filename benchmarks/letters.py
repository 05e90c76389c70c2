"""Printed letters as outliers for models of MNIST: 300 images of 28 pixels, in the fonts of matplotlib.

python benchmarks/letters.py letters/ && genai anomalies zoo/mnist-vae letters/
"""

import random
import sys
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

LETTERS = "ABCDEFGHKMNPQRTUVWXYabdeghkmnr"  # without letters that look like digits
NUM, SIDE, SCALE = 300, 28, 4


def letter(character: str, font: Path, size: int, degrees: float) -> Image.Image:
    """A white letter on black, rendered four times larger and rotated by `degrees`."""
    image = Image.new("L", (SCALE * SIDE, SCALE * SIDE))
    middle = SCALE * SIDE / 2
    ImageDraw.Draw(image).text((middle, middle), character, 255, font=ImageFont.truetype(font, size), anchor="mm")
    return image.rotate(degrees).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def main() -> None:
    """Write the images into a new folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    fonts = sorted((Path(matplotlib.get_data_path()) / "fonts/ttf").glob("DejaVu*.ttf"))
    generator = random.Random(0)
    for i in range(NUM):
        character, font = generator.choice(LETTERS), generator.choice(fonts)
        image = letter(character, font, generator.randint(70, 92), generator.uniform(-12, 12))
        image.save(folder / f"{i:03}-{character}.png")


if __name__ == "__main__":
    main()
