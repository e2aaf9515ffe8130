"""Draw label maps in the colours of their classes; patterns mark unknown pixels and pseudo-labels."""
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..scenario import BACKGROUND, IGNORE, UNKNOWN

SIDE = 256
"""Sides of a pane below which pixels are drawn larger, in whole steps."""
GAP, LINE = 8, 20
WHITE, BLACK, INK = (255, 255, 255), (0, 0, 0), (40, 40, 40)
UNKNOWN_COLOURS = (110, 110, 110), (175, 175, 175)
"""The two colours of the chessboard that stands for unknown, which no class has by chance."""
CELL, STRIPE = 6, 12
"""Sides of the chessboard's cells, and the distance of the stripes that mark a pseudo-label, in drawn pixels."""


def zoom_of(size: Sequence[int]) -> int:
    """How many drawn pixels a pixel of a map of (height, width) takes, in each direction."""
    return max(1, SIDE // max(size))


def colour_table(palette: Sequence[Sequence[int]]) -> np.ndarray:
    """RGB colour of every label, uint8 (256, 3): classes as in the palette, ignored pixels white."""
    table = np.zeros((IGNORE + 1, 3), np.uint8)
    table[:len(palette)] = palette
    table[UNKNOWN], table[IGNORE] = UNKNOWN_COLOURS[0], WHITE
    return table


def draw_labels(labels: np.ndarray, palette: Sequence[Sequence[int]], pseudo: np.ndarray | None = None,
                zoom: int = 1) -> np.ndarray:
    """Draw a label map.

    Args:
        labels: uint8 (H, W).
        palette: RGB colours by label, background first.
        pseudo: bool (H, W), where labels are striped.
        zoom: drawn pixels a pixel, in each direction.

    Returns:
        uint8 (zoom * H, zoom * W, 3).
    """
    labels = labels.repeat(zoom, 0).repeat(zoom, 1)
    drawn = colour_table(palette)[labels]
    y, x = np.ogrid[:labels.shape[0], :labels.shape[1]]
    drawn[(labels == UNKNOWN) & ((y // CELL + x // CELL) % 2 > 0)] = UNKNOWN_COLOURS[1]
    if pseudo is not None:
        drawn[pseudo.repeat(zoom, 0).repeat(zoom, 1) & ((y + x) % STRIPE < 2)] = WHITE
    return drawn


def draw_strip(panes: Sequence[tuple[str, np.ndarray]], caption: str) -> Image.Image:
    """Put drawn images side by side, each under its title, with a line of text below.

    Args:
        panes: title and uint8 (H, W, 3), all of one height.
        caption: the line.
    """
    width = sum(pane.shape[1] for _, pane in panes) + GAP * (len(panes) + 1)
    height = panes[0][1].shape[0]
    strip = Image.new('RGB', (width, height + 2 * LINE + 2 * GAP), WHITE)
    pen, left = ImageDraw.Draw(strip), GAP
    for title, pane in panes:
        _write(pen, (left, GAP), title)
        strip.paste(Image.fromarray(np.ascontiguousarray(pane)), (left, GAP + LINE))
        pen.rectangle((left - 1, GAP + LINE - 1, left + pane.shape[1], GAP + LINE + height), outline=(200, 200, 200))
        left += pane.shape[1] + GAP
    _write(pen, (GAP, height + LINE + GAP + 2), caption, width - 2 * GAP)
    return strip


def draw_legend(labels: Iterable[int], names: Sequence[str], palette: Sequence[Sequence[int]], width: int,
                pseudo: bool) -> Image.Image:
    """Draw a field of each label's colour with its name, in rows.

    Args:
        labels: which labels occur.
        names: of the classes by label, background first.
        palette: their colours.
        width: of the legend, in pixels.
        pseudo: whether pseudo-labels occur.
    """
    side = LINE - 4
    entries: list[tuple[np.ndarray, str]] = []
    for label in sorted(set(labels)):
        name = {UNKNOWN: 'unknown', IGNORE: 'ignored'}.get(label) or names[label]
        entries.append((draw_labels(np.full((side, 2 * side), label, np.uint8), palette), name))
    if pseudo:
        everywhere = np.ones((side, 2 * side), bool)
        entries.append((draw_labels(np.full_like(everywhere, BACKGROUND, np.uint8), palette, everywhere),
                        'striped: pseudo-label of the old model'))
    pen = ImageDraw.Draw(Image.new('RGB', (1, 1)))
    places, left, top = [], GAP, GAP
    for _, name in entries:
        wide = 2 * side + GAP + int(pen.textlength(name, _font())) + 2 * GAP
        if left + wide > width and left > GAP:
            left, top = GAP, top + LINE + 4
        places.append((left, top))
        left += wide
    legend = Image.new('RGB', (width, top + LINE + GAP), WHITE)
    pen = ImageDraw.Draw(legend)
    for (field, name), (left, top) in zip(entries, places, strict=True):
        legend.paste(Image.fromarray(field), (left, top))
        pen.rectangle((left - 1, top - 1, left + 2 * side, top + side), outline=INK)
        _write(pen, (left + 2 * side + GAP, top), name, width - left - 2 * side - 2 * GAP)
    return legend


def stack(parts: Sequence[Image.Image], title: str) -> Image.Image:
    """Put images below each other, under a title."""
    sheet = Image.new('RGB', (max(part.width for part in parts), LINE + GAP + sum(part.height for part in parts)),
                      WHITE)
    _write(ImageDraw.Draw(sheet), (GAP, GAP), title, sheet.width - 2 * GAP)
    top = LINE + GAP
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font."""
    return ImageFont.load_default(13)


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int | None = None) -> None:
    """Write a line of text, and of one that is too long its beginning."""
    if width is not None and pen.textlength(text, _font()) > width:
        while text and pen.textlength(text + ' ...', _font()) > width:
            text = text[:-1]
        text += ' ...'
    pen.text(place, text, fill=INK, font=_font())
