"""The legend: everything said fits beside the image, at every size."""

import numpy as np
import pytest

from dicom_io.legend import Legend, Line, Style, draw_canvas, draw_footer, layout_of

SIZES = [(16, 16), (64, 512), (512, 512), (256, 256), (2500, 2000)]


def legend_of(*body, scale=()):
    return Legend(head=(Line(text="Title", style=Style.STRONG),), scale=scale, body=body)


def panel_of(size, legend):
    layout = layout_of(*size)
    canvas = draw_canvas(layout, legend, ("R", "L", "A", "P"))
    return layout, canvas[:, layout.panel_left :]


@pytest.mark.parametrize("size", SIZES)
def test_no_word_is_cut_at_the_border(size):
    long = "supercalifragilistic-expialidocious_without.any.space.at.all " * 2
    swatches = tuple(Line(text=long, swatch=(0, 255, 255)) for _ in range(6))

    _, panel = panel_of(size, legend_of((Line(text=long),), swatches))

    assert panel.any()
    assert not panel[:, -2:].any()


@pytest.mark.parametrize("size", SIZES)
def test_many_lines_shrink_until_they_fit_above_the_footer(size):
    lines = tuple(Line(text=f"line {number} of many") for number in range(32))

    layout, panel = panel_of(size, legend_of(lines))

    foot = layout.rows - round(58 * layout.scale)
    ink = np.flatnonzero(panel.any(axis=(1, 2)))
    assert ink.max() < foot
    assert ink.max() > foot / 2


def test_footer_is_written_below_and_leaves_the_rest_alone():
    layout = layout_of(512, 512)
    canvas = draw_canvas(layout, legend_of(), ("R", "L", "A", "P"))
    before = canvas.copy()
    canvas = canvas.copy()

    draw_footer(canvas, layout, ["slice 1 of 2", "shown: 1 to 2"])

    changed = np.argwhere((canvas != before).any(axis=2))
    assert changed[:, 0].min() >= layout.rows - 58
    assert changed[:, 1].min() >= layout.panel_left


@pytest.mark.parametrize("size", SIZES)
def test_enlargement_is_a_whole_factor_and_reversible(size):
    layout = layout_of(*size)

    assert layout.image_rows == size[0] * layout.factor
    assert max(layout.image_rows, layout.image_columns) >= 512
    first = layout.margin + (layout.factor - 1) / 2
    assert layout.source_index(first) == pytest.approx(0.0)
    assert layout.source_index(first + 3 * layout.factor) == pytest.approx(3.0)


def test_letters_stand_in_the_margin():
    layout = layout_of(512, 512)

    canvas = draw_canvas(layout, legend_of(), ("PR", "AL", "H", "F"))

    ink = canvas[:, : layout.panel_left].any(axis=2)
    inside = ink[layout.margin : -layout.margin, layout.margin : -layout.margin]
    assert ink[:, : layout.margin].any()
    assert ink[: layout.margin].any()
    assert not inside.any()


@pytest.mark.parametrize("size", SIZES)
def test_a_legend_that_is_cut_says_so(size):
    some, many = (
        tuple(Line(text=f"structure {n}", swatch=(0, 255, 255)) for n in range(count))
        for count in (400, 500)
    )

    _, cut = panel_of(size, legend_of(some))
    _, also_cut = panel_of(size, legend_of(many))
    layout, alone = panel_of(size, legend_of((Line(text="structure 0"),)))

    # What is cut is blank at the end but for one line, which is the same however much is missing.
    room = layout.rows - round(58 * layout.scale) - layout.margin // 2
    last = slice(room - round(16 * layout.scale), room)
    assert cut[last].any()
    assert not alone[last].any()
    np.testing.assert_array_equal(cut[last], also_cut[last])
