"""Label maps in colours."""
import numpy as np
from PIL import Image

from ssul_mmseg.datasets.label_sheet import (
    CELL,
    STRIPE,
    UNKNOWN_COLOURS,
    WHITE,
    draw_labels,
    draw_legend,
    draw_strip,
    stack,
    zoom_of,
)
from ssul_mmseg.scenario import IGNORE, UNKNOWN

PALETTE = [[0, 0, 0], [200, 0, 0], [0, 0, 200]]


def test_classes_have_their_colours_and_ignored_pixels_are_white():
    drawn = draw_labels(np.array([[0, 1], [2, IGNORE]], np.uint8), PALETTE, zoom=2)
    assert drawn.shape == (4, 4, 3)
    assert drawn[::2, ::2].tolist() == [[[0, 0, 0], [200, 0, 0]], [[0, 0, 200], list(WHITE)]]


def test_unknown_is_a_chessboard_and_a_pseudo_label_is_striped():
    unknown = draw_labels(np.full((2 * CELL, 2 * CELL), UNKNOWN, np.uint8), PALETTE)
    assert [tuple(unknown[0, 0]), tuple(unknown[0, CELL]), tuple(unknown[CELL, CELL])] == [
        UNKNOWN_COLOURS[0], UNKNOWN_COLOURS[1], UNKNOWN_COLOURS[0]]
    labels, pseudo = np.ones((STRIPE, 2 * STRIPE), np.uint8), np.zeros((STRIPE, 2 * STRIPE), bool)
    pseudo[:, :STRIPE] = True
    drawn = draw_labels(labels, PALETTE, pseudo)
    white = (drawn == WHITE).all(2)
    assert white[:, :STRIPE].sum() == 2 * STRIPE and not white[:, STRIPE:].any()


def test_small_images_are_drawn_larger():
    assert [zoom_of(size) for size in ((64, 64), (30, 100), (513, 513))] == [4, 2, 1]


def test_a_legend_wraps_and_names_every_label():
    names = ['background', 'a', 'b']
    wide = draw_legend([0, 1, 2, UNKNOWN, IGNORE], names, PALETTE, 2000, pseudo=True)
    narrow = draw_legend([0, 1, 2, UNKNOWN, IGNORE], names, PALETTE, 120, pseudo=True)
    assert wide.width == 2000 and narrow.height > wide.height
    colours = {tuple(colour) for colour in np.array(wide).reshape(-1, 3).tolist()}
    assert {(200, 0, 0), (0, 0, 200), *UNKNOWN_COLOURS} <= colours
    # Without pseudo-labels there is a field less.
    assert np.array(draw_legend([0], names, PALETTE, 2000, pseudo=False)).sum() > np.array(
        draw_legend([0], names, PALETTE, 2000, pseudo=True)).sum()


def test_a_strip_and_a_sheet_hold_their_parts():
    pane = np.full((10, 12, 3), 77, np.uint8)
    strip = draw_strip([('one', pane), ('two', pane)], 'x' * 500)
    assert (np.array(strip) == 77).all(2).sum() >= 2 * pane.size // 3
    sheet = stack([strip, Image.new('RGB', (5, 7))], 'title')
    assert sheet.width == strip.width and sheet.height > strip.height + 7
