"""The bench's Qt: PythonQt's manners, and stricter where PythonQt forgives."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import slicerbench

UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0">
 <class>Frame</class>
 <widget class="qMRMLWidget" name="Frame">
  <layout class="QVBoxLayout">
   <item>
    <widget class="ctkCollapsibleButton" name="section">
     <property name="text"><string>Inputs</string></property>
     <property name="collapsed"><bool>true</bool></property>
     <layout class="QFormLayout">
      <item row="0" column="1">
       <widget class="qMRMLNodeComboBox" name="selector">
        <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
        <property name="noneEnabled"><bool>true</bool></property>
        {extra}
        <property name="SlicerParameterName" stdset="0"><string>inputVolume</string></property>
       </widget>
      </item>
     </layout>
    </widget>
   </item>
   <item>
    <widget class="ctkSliderWidget" name="slider">
     <property name="maximum"><double>5.0</double></property>
     <property name="value"><double>2.5</double></property>
    </widget>
   </item>
   <item><widget class="QCheckBox" name="box"/></item>
   <item><widget class="{other}" name="label"/></item>
  </layout>
 </widget>
 <connections>
  <connection>
   <sender>Frame</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
   <receiver>selector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot>
  </connection>
  <connection>
   <sender>box</sender><signal>{signal}</signal><receiver>slider</receiver><slot>setEnabled(bool)</slot>
  </connection>
 </connections>
</ui>
"""


def loadUi(folder, extra="", other="QLabel", signal="toggled(bool)"):
    import slicer

    path = folder / "panel é 软.ui"
    path.write_text(UI.format(extra=extra, other=other, signal=signal), encoding="utf-8")
    widget = slicer.util.loadUI(str(path))
    return widget, slicer.util.childWidgetVariables(widget)


def test_properties_are_values(bench):
    import qt

    button = qt.QPushButton("one")
    button.text, button.checkable, button.toolTip = "two", True, "tip"
    button.objectName = "me"
    assert (button.text, button.name, button.toolTip) == ("two", "me", "tip")
    assert button.enabled
    assert not button.checked
    combo = qt.QComboBox()
    combo.addItem("a", 1)
    combo.addItem("b", 2)
    combo.currentIndex = 1
    assert (combo.count, combo.currentText, combo.currentData) == (2, "b", 2)
    assert combo.className() == "QComboBox"
    assert qt.QFileInfo("a.txt").suffix() == "txt"  # no QObject, so methods stay methods
    with pytest.raises(AttributeError, match="read-only"):
        combo.count = 3


def test_plain_widgets_take_no_new_attributes(bench):
    import ctk
    import qt
    import slicer

    for widget in (qt.QPushButton(), qt.QTimer(), ctk.ctkSliderWidget(), slicer.qMRMLNodeComboBox()):
        with pytest.raises(AttributeError, match="no property 'remember'"):
            widget.remember = 1
    with pytest.raises(AttributeError, match="setText"):
        qt.QPushButton().setText = "a method"

    class Panel(qt.QWidget):
        pass

    panel = Panel()
    panel.remember = 1
    assert panel.remember == 1


def test_dynamic_properties_read_as_attributes(bench):
    import qt

    label = qt.QLabel()
    label.setProperty("SlicerParameterName", "volume")
    assert label.SlicerParameterName == "volume"
    label.SlicerParameterName = "other"
    assert label.property("SlicerParameterName") == "other"


def test_signals_connect_by_their_cpp_signature(bench):
    import qt

    got = []
    button = qt.QPushButton()
    button.checkable = True
    assert button.connect("clicked()", lambda: got.append("none"))
    button.connect("clicked(bool)", got.append)
    button.connect("clicked( bool )", lambda: got.append("fewer"))
    button.connect("clicked()", lambda kept=5: got.append(kept))
    button.click()
    assert got == ["none", True, "fewer", 5]

    got.clear()
    button.disconnect("clicked(bool)", got.append)
    button.disconnect("clicked()")
    button.disconnect("clicked()")  # nothing is left, which is fine
    button.click()
    assert got == ["fewer"]
    with pytest.raises(ValueError, match="nothing is connected"):
        button.disconnect("clicked(bool)", got.append)


@pytest.mark.parametrize("signal", ["nosuch()", "clicked", "clicked(int)", "currentIndexChanged(QString)"])
def test_unknown_signals_raise(bench, signal):
    import qt

    with pytest.raises(ValueError, match="signal"):
        qt.QPushButton().connect(signal, lambda: None)
    with pytest.raises(ValueError, match="signal"):
        qt.QComboBox().connect(signal, lambda: None)


def test_connections_go_with_their_sender(bench):
    import qt
    from slicerbench import qt_

    parent = qt.QWidget()
    child = qt.QPushButton(parent)
    known = len(qt_._connections)
    child.connect("clicked()", lambda: None)
    assert len(qt_._connections) == known + 1
    parent.delete()
    assert len(qt_._connections) == known


def test_timers_and_waiting(bench):
    import qt

    ticks = []
    timer = qt.QTimer()
    timer.interval, timer.singleShot = 1, True
    timer.connect("timeout()", lambda: ticks.append("timer"))
    timer.start()
    qt.QTimer.singleShot(0, lambda: ticks.append("shot"))
    bench.waitFor(lambda: len(ticks) == 2)
    assert not timer.active
    with pytest.raises(TimeoutError):
        bench.waitFor(lambda: False, seconds=0.05)


def test_modal_dialogs_answer_themselves(bench):
    import qt
    import slicer

    with pytest.raises(RuntimeError, match="a modal dialog would open"):
        qt.QFileDialog.getOpenFileName(None, "Choose")
    with pytest.raises(RuntimeError, match="QDialog"):
        qt.QDialog().exec_()
    bench.answers.extend(["/data/软 é.nrrd", qt.QMessageBox.Yes])
    assert qt.QFileDialog.getOpenFileName(None, "Choose") == "/data/软 é.nrrd"
    assert qt.QMessageBox().exec_() == qt.QMessageBox.Yes
    slicer.util.errorDisplay("testing mode: logged only")

    qt.QDesktopServices.openUrl(qt.QUrl("file:///models"))
    assert bench.openedUrls == ["file:///models"]


def test_settings_are_of_this_test(bench):
    import qt
    import slicer

    assert not qt.QSettings().contains("Module/Choice")
    qt.QSettings().setValue("Module/Choice", "cpu")
    assert slicer.util.settingsValue("Module/Choice", "auto") == "cpu"
    assert slicer.app.userSettings().fileName() == qt.QSettings().fileName()
    assert Path(slicer.app.userSettings().fileName()).is_relative_to(Path(slicer.app.temporaryPath).parent)


def test_settings_were_of_that_test(bench):
    import slicer

    assert slicer.util.settingsValue("Module/Choice", "auto") == "auto"


def test_ui_files_with_stand_ins(bench, tmp_path):
    import slicer

    widget, ui = loadUi(tmp_path)
    assert (ui.section.text, ui.section.collapsed, ui.slider.value, ui.slider.maximum) == ("Inputs", True, 2.5, 5.0)
    assert ui.selector.nodeTypes == ["vtkMRMLScalarVolumeNode"]
    assert ui.selector.noneEnabled
    assert ui.selector.SlicerParameterName == "inputVolume"
    assert not ui.selector.enabled

    widget.setMRMLScene(slicer.mrmlScene)
    assert ui.selector.mrmlScene() is slicer.mrmlScene
    assert ui.selector.enabled
    ui.box.click()
    assert ui.slider.enabled
    ui.box.click()
    assert not ui.slider.enabled


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"other": "ctkNoSuchWidget"}, "no such widget class: ctkNoSuchWidget"),
        ({"extra": '<property name="noSuch"><bool>true</bool></property>'}, "no property 'noSuch'"),
        ({"signal": "noSuch()"}, "no signal"),
    ],
)
def test_mistakes_in_ui_files_raise(bench, tmp_path, change, message):
    with pytest.raises((RuntimeError, ValueError), match=message):
        loadUi(tmp_path, **change)


def test_collapsible_button(bench):
    import ctk
    import qt

    button = ctk.ctkCollapsibleButton()
    layout = qt.QVBoxLayout(button)
    layout.addWidget(qt.QLabel("inside\n" * 5))
    got = []
    button.connect("contentsCollapsed(bool)", got.append)
    full = button.sizeHint.height()
    button.collapsed = True
    assert got == [True]
    assert button.maximumHeight < full
    button.collapsed = False
    assert button.maximumHeight > full


def fromSlot():
    import qt

    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()


def fromSlotWithTooManyParameters():
    import qt

    button = qt.QPushButton()
    button.connect("clicked()", lambda more: 1 / 0)
    button.click()


def fromPythonicConnection():
    import qt

    button = qt.QPushButton()
    button.clicked.connect(lambda: 1 / 0)
    button.click()


def fromObserver():
    import vtk

    subject = vtk.vtkObject()
    subject.AddObserver("ModifiedEvent", lambda *_: 1 / 0)
    subject.Modified()


def fromTimer():
    import qt
    import slicer

    qt.QTimer.singleShot(0, lambda: 1 / 0)
    slicer.app.processEvents()


def fromThread():
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()


def fromWidgetInThread():
    import qt

    label = qt.QLabel()
    thread = threading.Thread(target=lambda: setattr(label, "text", "later"))
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        (fromSlot, ZeroDivisionError),
        (fromSlotWithTooManyParameters, TypeError),
        (fromPythonicConnection, ZeroDivisionError),
        (fromObserver, ZeroDivisionError),
        (fromTimer, ZeroDivisionError),
        (fromThread, ZeroDivisionError),
        (fromWidgetInThread, RuntimeError),
    ],
)
def test_exceptions_that_slicer_only_prints_fail_the_test(fail, error):
    with pytest.raises(ExceptionGroup) as raised, slicerbench.session():
        fail()
    assert [type(e) for e in raised.value.exceptions] == [error]


def test_exceptions_of_slots_are_told_with_the_failure_that_follows():
    def failAndWait():
        with slicerbench.session() as bench:
            fromSlot()
            bench.waitFor(lambda: False, seconds=0.01)

    with pytest.raises(TimeoutError) as raised:
        failAndWait()
    assert "ZeroDivisionError" in raised.value.__notes__[0]
