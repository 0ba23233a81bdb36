"""Results as tables of the scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import slicer
import vtk


def addTable(name: str, columns: Mapping[str, Sequence[str | float]]) -> Any:
    """Add a vtkMRMLTableNode with these columns: text where the first cell is text, else numbers.

    Args:
        columns: title -> cells, all of one length.
    """
    node = slicer.vtkMRMLTableNode()
    node.SetName(slicer.mrmlScene.GetUniqueNameByString(name))
    for title, cells in columns.items():
        isText = bool(cells) and isinstance(cells[0], str)
        column = vtk.vtkStringArray() if isText else vtk.vtkDoubleArray()
        column.SetName(title)
        for cell in cells:
            column.InsertNextValue(cell)
        node.AddColumn(column)
    node.SetLocked(True)
    slicer.mrmlScene.AddNode(node)
    return node
