"""A contact sheet: all figures at a glance, each with its name."""

from collections.abc import Sequence
from pathlib import Path

from symlab.harness.report_data import numbered

COLUMNS, WIDTH, GAP, TEXT = 5, 400, 16, 18  # thumbnails in a row; sizes in pixels


def write(pictures: Sequence[Path], path: Path) -> Path:
    """Write one PNG with thumbnails of figures and their names; return its path.

    pictures: the PNG files of the figures, at least one; they are sorted by the numbers
        in their names.
    path: the PNG file to write.

    Each row of thumbnails is as tall as its tallest one.
    """
    from PIL import Image, ImageDraw, ImageFont

    pictures = sorted(pictures, key=lambda p: numbered(p.stem))
    small = [_thumbnail(p) for p in pictures]
    starts = range(0, len(small), COLUMNS)
    heights = [max(s.height for s in small[i : i + COLUMNS]) for i in starts]
    step = GAP + TEXT + 4
    size = COLUMNS * (WIDTH + GAP) + GAP, sum(heights) + step * len(heights) + GAP
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    top = GAP
    for row, height in zip(starts, heights, strict=True):
        for i, image in enumerate(small[row : row + COLUMNS]):
            left = GAP + i * (WIDTH + GAP)
            pen.text((left, top), pictures[row + i].stem, "black", font)
            sheet.paste(image, (left, top + TEXT + 4))
        top += height + step
    few = sheet.quantize(
        256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    few.save(path, "PNG", optimize=True)
    return path


def _thumbnail(path: Path):
    from PIL import Image

    with Image.open(path) as image:
        height = round(image.height * WIDTH / image.width)
        return image.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
