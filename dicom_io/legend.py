"""Legend beside a painted image: a panel of words and the color scale, never over anatomy."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_io.errors import EncodingError
from dicom_io.paint import FAINTEST, color_map

#: Smaller images are enlarged by a whole factor until their longer side has this many pixels.
LEAST_IMAGE_SIDE = 512
_LEAST_CANVAS_ROWS = 548
_PANEL_COLUMNS = 260
_MARGIN = 18
_FOOTER_ROWS = 58
_FOOTER_LINE = 17
_FONT_SIZE = 13
#: More lines with swatches than this stand in two columns.
_MOST_IN_ONE_COLUMN = 5
_WHITE = (255, 255, 255)
_GRAY = (150, 150, 150)

Color = tuple[int, int, int]


class Style(StrEnum):
    """How a line of the legend looks."""

    PLAIN = "plain"
    STRONG = "strong"
    ALERT = "alert"
    STRONG_ALERT = "strong alert"
    MUTED = "muted"


_COLORS: dict[Style, Color] = {
    Style.PLAIN: (214, 214, 214),
    Style.STRONG: _WHITE,
    Style.ALERT: (255, 176, 0),
    Style.STRONG_ALERT: (255, 176, 0),
    Style.MUTED: _GRAY,
}
_LARGE = frozenset({Style.STRONG, Style.STRONG_ALERT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One paragraph of the legend; ``swatch`` draws a colored line before it."""

    text: str
    style: Style = Style.PLAIN
    swatch: Color | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """All that stands beside every slice of one overlay."""

    head: tuple[Line, ...]
    #: Words under the color scale; empty: no scale is drawn.
    scale: tuple[Line, ...]
    #: Sections, each after a gap.
    body: tuple[tuple[Line, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where image and panel lie on the canvas, in pixels."""

    #: Whole factor by which the source image is enlarged.
    factor: int
    #: Black border around the image; it holds the orientation letters.
    margin: int
    image_rows: int
    image_columns: int
    rows: int
    columns: int
    #: Size of everything drawn, relative to a canvas of 548 rows.
    scale: float

    @property
    def panel_left(self) -> int:
        """First column of the panel."""
        return self.image_columns + 2 * self.margin

    def source_index(self, pixel: float) -> float:
        """Return the source row (or column) index at a canvas row (or column)."""
        return (pixel - self.margin + 0.5) / self.factor - 0.5


def layout_of(rows: int, columns: int) -> Layout:
    """Return the layout for a source image of this size."""
    factor = max(1, ceil(LEAST_IMAGE_SIDE / max(rows, columns)))
    image_rows, image_columns = rows * factor, columns * factor
    scale = max(1.0, image_rows / LEAST_IMAGE_SIDE)
    margin = round(_MARGIN * scale)
    canvas_rows = max(image_rows + 2 * margin, round(_LEAST_CANVAS_ROWS * scale))
    return Layout(
        factor=factor,
        margin=margin,
        image_rows=image_rows,
        image_columns=image_columns,
        rows=canvas_rows,
        columns=image_columns + 2 * margin + round(_PANEL_COLUMNS * scale),
        scale=scale,
    )


def draw_canvas(layout: Layout, legend: Legend, letters: Sequence[str]) -> NDArray[np.uint8]:
    """Return the RGB canvas [row, column, 3] that all slices of an overlay share.

    A legend that does not fit is shrunk, and if that is not enough cut at its end, which it says.

    Parameters
    ----------
    letters
        What lies at the image's left, right, top and bottom border; empty where unknown.
    """
    image = Image.new("RGB", (layout.columns, layout.rows))
    _draw_letters(ImageDraw.Draw(image), layout, letters)
    room = layout.rows - round(_FOOTER_ROWS * layout.scale) - layout.margin // 2
    for shrink in (1.0, 0.92, 0.85, 0.78, 0.7, 0.62):
        panel = Image.new("RGB", (layout.columns - layout.panel_left, layout.rows))
        if _Pen(panel, layout.scale * shrink, layout.margin // 2).draw(legend) <= room:
            break
    else:
        _cut(panel, room, layout)
    panel.paste((0, 0, 0), (0, room, panel.width, panel.height))
    image.paste(panel, (layout.panel_left, 0))
    return np.asarray(image, np.uint8)


def _cut(panel: Image.Image, room: int, layout: Layout) -> None:
    """Say in the last row of the room that there was more to say."""
    top = room - round(18 * layout.scale)
    panel.paste((0, 0, 0), (0, top, panel.width, panel.height))
    font = _font(_FONT_SIZE * layout.scale)
    color = _COLORS[Style.ALERT]
    ImageDraw.Draw(panel).text((0, top), "... cut: the report has all", fill=color, font=font)


def draw_footer(
    canvas: NDArray[np.uint8], layout: Layout, lines: Sequence[str], *, first: int = 0
) -> None:
    """Write lines into the foot of the panel, from the line of number ``first`` on (0 to 2)."""
    scale, font = layout.scale, _font(_FONT_SIZE * layout.scale)
    columns = layout.columns - layout.panel_left
    top = layout.rows - round(_FOOTER_ROWS * scale) + round(first * _FOOTER_LINE * scale)
    footer = Image.new("RGB", (columns, round(len(lines) * _FOOTER_LINE * scale)))
    draw = ImageDraw.Draw(footer)
    for number, line in enumerate(lines):
        draw.text((0, number * _FOOTER_LINE * scale), line, fill=_WHITE, font=font)
    canvas[top : top + footer.height, layout.panel_left :] = np.asarray(footer)


class _Pen:
    """Draws from top to bottom; lives as long as one panel is being drawn."""

    def __init__(self, panel: Image.Image, scale: float, top: int) -> None:
        self._panel = panel
        self._draw = ImageDraw.Draw(panel)
        self._scale = scale
        self._fonts = {
            style: _font((_FONT_SIZE + (3 if style in _LARGE else 0)) * scale) for style in Style
        }
        self._row = float(top)
        self._width = panel.width - 10 * scale

    def draw(self, legend: Legend) -> float:
        """Draw everything; return the first free row."""
        self._paragraphs(legend.head)
        if legend.scale:
            self._color_scale()
            self._paragraphs(legend.scale)
        for section in legend.body:
            self._paragraphs(section)
        return self._row

    def _paragraphs(self, lines: Sequence[Line]) -> None:
        if not lines:
            return
        if len(lines) > _MOST_IN_ONE_COLUMN and all(line.swatch for line in lines):
            self._two_columns(lines)
        else:
            for line in lines:
                self._paragraph(line, left=0.0, width=self._width)
        self._row += 9 * self._scale

    def _two_columns(self, lines: Sequence[Line]) -> None:
        half = (len(lines) + 1) // 2
        half_width = self._width / 2
        top, ends = self._row, []
        for column, part in enumerate((lines[:half], lines[half:])):
            self._row = top
            for line in part:
                self._paragraph(line, left=column * half_width, width=half_width - 6)
            ends.append(self._row)
        self._row = max(ends)

    def _paragraph(self, line: Line, *, left: float, width: float) -> None:
        if line.swatch:
            middle = self._row + 8 * self._scale
            ends = (left, middle, left + 11 * self._scale, middle)
            self._draw.line(ends, fill=line.swatch, width=max(2, round(2 * self._scale)))
            left, width = left + 16 * self._scale, width - 16 * self._scale
        font = self._fonts[line.style]
        for part in _wrap(line.text, font, width):
            self._draw.text((left, self._row), part, fill=_COLORS[line.style], font=font)
            self._row += (19 if line.style in _LARGE else 16) * self._scale

    def _color_scale(self) -> None:
        height, width = round(14 * self._scale), round(self._width)
        ramp = np.linspace(0, 255, width).astype(np.uint8)
        bar = color_map()[ramp]
        bar[ramp < round(FAINTEST * 255)] = 0
        strip = Image.fromarray(np.repeat(bar[None], height, axis=0))
        self._panel.paste(strip, (0, round(self._row)))
        frame = (0, round(self._row), width - 1, round(self._row) + height)
        self._draw.rectangle(frame, outline=_GRAY)
        self._row += height + 2 * self._scale
        font = self._fonts[Style.PLAIN]
        for percent, anchor in ((0, "la"), (20, "ma"), (40, "ma"), (60, "ma"), (80, "ma")):
            at = (percent / 100 * width, self._row)
            self._draw.text(at, str(percent), fill=_COLORS[Style.PLAIN], font=font, anchor=anchor)
        end = (width, self._row)
        self._draw.text(end, "100 %", fill=_COLORS[Style.PLAIN], font=font, anchor="ra")
        self._row += 18 * self._scale


def _draw_letters(draw: ImageDraw.ImageDraw, layout: Layout, letters: Sequence[str]) -> None:
    left, right, top, bottom = letters
    font = _font(_FONT_SIZE * layout.scale)
    margin = layout.margin
    middle_row = margin + layout.image_rows / 2
    middle_column = margin + layout.image_columns / 2
    far_row, far_column = layout.image_rows + 1.5 * margin, layout.image_columns + 1.5 * margin
    for text, position in (
        ("\n".join(left), (margin / 2, middle_row)),
        ("\n".join(right), (far_column, middle_row)),
        (top, (middle_column, margin / 2)),
        (bottom, (middle_column, far_row)),
    ):
        draw.text(
            position,
            text,
            fill=_WHITE,
            font=font,
            anchor="mm" if text else None,
            align="center",
        )


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        candidate = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(candidate) <= width:
            lines[-1] = candidate
        else:
            lines.extend(_broken(word, font, width))
    return lines


def _broken(word: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break a word that is too long, after its last hyphen, underscore or dot that fits."""
    if font.getlength(word) <= width or len(word) < 2:
        return [word]
    fitting = len(word) - 1
    while fitting > 1 and font.getlength(word[:fitting]) > width:
        fitting -= 1
    at = max(word.rfind(mark, 0, fitting) for mark in "-_.") + 1 or fitting
    return [word[:at], *_broken(word[at:], font, width)]


def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise EncodingError("Pillow was built without FreeType: legends need its default font")
    return font
