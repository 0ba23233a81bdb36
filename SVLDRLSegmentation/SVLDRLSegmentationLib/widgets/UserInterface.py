"""What all panels do with widgets: load their .ui file, enable buttons, fill tables, choose paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from ..jobs.Core import RESOURCES


class Ui(Protocol):
    """The named children of a .ui file, as attributes."""

    def __getattr__(self, name: str) -> qt.QWidget: ...


def loadUi(name: str) -> tuple[qt.QWidget, Ui]:
    """The widget of Resources/UI/`name`.ui, and its named children as attributes."""
    widget = slicer.util.loadUI(str(RESOURCES / "UI" / f"{name}.ui"))
    return widget, slicer.util.childWidgetVariables(widget)


def setReady(button: qt.QAbstractButton, missing: str, toolTip: str) -> None:
    """Enable a button, or disable it and let its tooltip say what is missing."""
    button.enabled = not missing
    button.toolTip = missing or toolTip


def fillTable(table: qt.QTableWidget, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Show texts in a QTableWidget, columns as wide as what they hold."""
    table.clear()
    table.setColumnCount(len(head))
    table.setHorizontalHeaderLabels(list(head))
    table.setRowCount(len(rows))
    for i, row in enumerate(rows):
        for j, text in enumerate(row):
            table.setItem(i, j, qt.QTableWidgetItem(text))
    table.resizeColumnsToContents()
    table.resizeRowsToContents()


def showTableNode(table: qt.QTableWidget, tableNode: slicer.vtkMRMLTableNode) -> None:
    """Show a vtkMRMLTableNode in a QTableWidget that is as high as its rows."""
    columns = [tableNode.GetTable().GetColumn(index) for index in range(tableNode.GetNumberOfColumns())]
    head = ["\n".join(column.GetName().rsplit(" ", 1)) for column in columns]
    rows = [[cellText(column, row) for column in columns] for row in range(tableNode.GetNumberOfRows())]
    fillTable(table, head, rows)
    fitHeight(table)


def fitHeight(table: qt.QTableWidget) -> None:
    """Make a QTableWidget as high as its rows, with room for a scroll bar."""
    height = table.horizontalHeader().sizeHint.height() + sum(table.rowHeight(row) for row in range(table.rowCount))
    table.setFixedHeight(height + 2 * table.frameWidth + table.horizontalScrollBar().sizeHint.height())


def cellText(column: vtk.vtkAbstractArray, row: int) -> str:
    """A cell of a VTK column: numbers with two decimals (mm with one), a dash for what is not known."""
    value = column.GetValue(row)
    if isinstance(value, str):
        return value
    decimals = 1 if "(mm)" in column.GetName() else 2
    return "\u2013" if math.isnan(value) else f"{value:.{decimals}f}"


def selectedRows(table: qt.QTableWidget) -> list[int]:
    """Rows of a QTableWidget that are selected, from the top."""
    return sorted({index.row() for index in table.selectionModel().selectedRows()})


def chooseFolder(parent: qt.QWidget, start: str = "") -> str:
    """A folder that the user picks, or an empty text."""
    return qt.QFileDialog.getExistingDirectory(parent, _("Choose a folder"), start)


def chooseFile(parent: qt.QWidget, kinds: str, start: str = "") -> str:
    """A file that the user picks, or an empty text; `kinds` as Qt's file filters."""
    return qt.QFileDialog.getOpenFileName(parent, _("Choose a file"), start, kinds)
