"""The bench's pictures show what is in the scene."""

from __future__ import annotations

import numpy as np


def test_slice_shows_volume_and_segments(phantomVolume, phantomSegmentation, tmp_path):
    from slicerbench import views

    with_segments = views.slice_png(tmp_path / "with é 软.png", phantomVolume)
    phantomSegmentation.GetDisplayNode().SetVisibility(False)
    without = views.slice_png(tmp_path / "without.png", phantomVolume)
    assert (tmp_path / "with é 软.png").stat().st_size > 1000
    assert with_segments.shape == (480, 480, 3)
    assert np.ptp(without.astype(int), axis=-1).max() == 0  # grey
    assert without.std() > 20
    assert (np.ptp(with_segments.astype(int), axis=-1) > 30).mean() > 0.05  # coloured


def test_slice_goes_through_a_point(phantomVolume, phantomSegmentation, tmp_path):
    from slicerbench import views
    from slicerbench.phantom import obliqueMatrix

    corner = tuple((obliqueMatrix() @ (2, 2, 2, 1))[:3])
    away = views.slice_png(tmp_path / "corner.png", phantomVolume, "Green", center=corner)
    assert np.ptp(away.astype(int), axis=-1).max() == 0
    assert away.max() > 0


def test_3d_view_shows_surfaces(phantomSegmentation, tmp_path):
    from slicerbench import views

    empty = views.threed_png(tmp_path / "empty.png")
    phantomSegmentation.CreateClosedSurfaceRepresentation()
    filled = views.threed_png(tmp_path / "filled.png", size=(300, 200))
    assert filled.shape == (200, 300, 3)
    reds = lambda picture: (picture[..., 0].astype(int) - picture[..., 2] > 60).mean()  # noqa: E731
    assert reds(empty) == 0
    assert reds(filled) > 0.005


def test_panel_is_drawn(bench, tmp_path):
    import qt
    from slicerbench import views

    panel = qt.QWidget()
    layout = qt.QFormLayout(panel)
    layout.addRow("Überlappung 软", qt.QLineEdit("text"))
    views.panel_png(tmp_path / "panel 软.png", panel, (300, 80))
    picture = qt.QImage(str(tmp_path / "panel 软.png"))
    assert (picture.width(), picture.height()) == (300, 80)
    colors = {picture.pixel(x, y) for x in range(300) for y in range(80)}
    assert len(colors) > 10
