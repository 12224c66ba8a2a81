"""The contact sheet holds every figure, in the order of the numbers."""

import numpy as np
from PIL import Image

from symlab.harness import gallery


def test_every_figure_is_on_the_sheet_in_its_order(tmp_path):
    colours = {"fig10": (200, 0, 0), "fig2": (0, 160, 0), "x": (0, 0, 220)}
    for name, colour in colours.items():
        Image.new("RGB", (800, 400), colour).save(tmp_path / f"{name}.png")
    found = gallery.write([*tmp_path.glob("*.png")], tmp_path / "sheet" / "gallery.png")
    sheet = np.asarray(Image.open(found).convert("RGB")).astype(int)
    places = []
    for name in ("fig2", "fig10", "x"):
        near = np.abs(sheet - colours[name]).max(-1) < 12
        assert near.sum() == gallery.WIDTH * gallery.WIDTH // 2
        places.append(np.flatnonzero(near.any(0))[0])
    assert places == sorted(places)


def test_a_sheet_of_many_has_several_rows(tmp_path):
    for i in range(gallery.COLUMNS + 1):
        height = 600 if i else 300
        Image.new("RGB", (800, height), "black").save(tmp_path / f"fig{i}.png")
    found = gallery.write([*tmp_path.glob("*.png")], tmp_path / "gallery.png")
    dark = np.asarray(Image.open(found).convert("L")) < 30
    middle = gallery.GAP + gallery.WIDTH // 2
    column = dark[:, middle]  # of the first figure of each row: 150 and 300 pixels
    assert column.sum() == 150 + 300
