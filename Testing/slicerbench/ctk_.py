"""Module `ctk`: the CTK widgets that the panels use, as Qt widgets with the same properties and signals."""

from __future__ import annotations

import types
from typing import Any

from PySide6 import QtCore, QtWidgets

from .qt_ import standIn

Property, Signal, Qt = QtCore.Property, QtCore.Signal, QtCore.Qt


@standIn
class ctkCollapsibleButton(QtWidgets.QWidget):
    """A titled section that folds. Folded, its children are clipped (the real one hides them)."""

    contentsCollapsed = Signal(bool)
    clicked = Signal(bool)
    toggled = Signal(bool)

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._collapsed = False
        self._header = QtWidgets.QToolButton(self)
        self._header.setToolButtonStyle(Qt.ToolButtonTextBesideIcon)
        self._header.setAutoRaise(True)
        self._header.setArrowType(Qt.DownArrow)
        self._header.clicked.connect(lambda *_: self._click())
        self.setContentsMargins(0, self._header.sizeHint.height(), 0, 0)

    def resizeEvent(self, event: object) -> None:
        self._header.resize(self.width, self._header.sizeHint.height())

    def _click(self) -> None:
        self.collapsed = not self._collapsed
        self.clicked.emit(not self._collapsed)

    def _setCollapsed(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self._header.setArrowType(Qt.RightArrow if collapsed else Qt.DownArrow)
        self.setMaximumHeight(self._header.sizeHint.height() if collapsed else 16777215)
        self.contentsCollapsed.emit(collapsed)
        self.toggled.emit(not collapsed)

    collapsed = Property(bool, lambda self: self._collapsed, _setCollapsed)
    checked = Property(bool, lambda self: not self._collapsed, lambda self, checked: self._setCollapsed(not checked))
    text = Property(str, lambda self: self._header.text, lambda self, text: self._header.setText(text))
    setCollapsed = _setCollapsed


def _ofSpinBox(kind: type, name: str) -> Any:
    """A property that is the spin box's."""

    def write(self: Any, value: Any) -> None:
        setattr(self._spinBox, name, value)

    return Property(kind, lambda self: getattr(self._spinBox, name), write)


@standIn
class ctkSliderWidget(QtWidgets.QWidget):
    """A slider with a spin box."""

    valueChanged = Signal(float)

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(Qt.Horizontal, self)
        self._spinBox = QtWidgets.QDoubleSpinBox(self)
        self._spinBox.setRange(0.0, 99.0)
        self._slider.setRange(0, 1000)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider, 1)
        row.addWidget(self._spinBox)
        self._slider.sliderMoved.connect(self._moveTo)
        self._spinBox.valueChanged.connect(self._onValueChanged)

    def _moveTo(self, position: int) -> None:
        self.value = self.minimum + position / 1000 * (self.maximum - self.minimum)

    def _onValueChanged(self, value: float) -> None:
        self._slider.setValue(round(1000 * (value - self.minimum) / ((self.maximum - self.minimum) or 1.0)))
        self.valueChanged.emit(value)

    value, minimum, maximum = _ofSpinBox(float, "value"), _ofSpinBox(float, "minimum"), _ofSpinBox(float, "maximum")
    singleStep, decimals = _ofSpinBox(float, "singleStep"), _ofSpinBox(int, "decimals")
    prefix, suffix = _ofSpinBox(str, "prefix"), _ofSpinBox(str, "suffix")

    def setValue(self, value: float) -> None:
        self._spinBox.setValue(value)


@standIn
class ctkMessageBox(QtWidgets.QMessageBox):
    """The message box of `slicer.util`, outside of testing mode; never opens (see `qt_.answers`)."""


def build() -> types.ModuleType:
    """Module `ctk`."""
    module = types.ModuleType("ctk", __doc__)
    vars(module).update({name: cls for name, cls in globals().items() if name.startswith("ctk")})
    return module
