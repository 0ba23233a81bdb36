"""How good the chosen model is, in a line, and its card behind a button; in the Refine tab."""

from __future__ import annotations

from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..jobs.Models import Model, ModelCard, ModelList
from ..widgets.UserInterface import Ui


class ModelCardBox:
    """Works on the lines below the model in RefinePanel.ui."""

    def __init__(self, ui: Ui) -> None:
        self._button, self._label, self._text = ui.modelCardButton, ui.modelQualityLabel, ui.modelCardText
        self.card: ModelCard | None = None
        self._button.connect("toggled(bool)", self._onToggled)
        self.show(None)

    def show(self, model: Model | None) -> None:
        """Show this model's quality; None, or a model without a card, shows nothing."""
        self.card = None
        if model is not None:
            try:
                self.card = ModelList().card(model)
            except JobError:  # a package of texts only, or one that is damaged: the refinement will say so
                self.card = None
        self._button.visible = self._label.visible = self.card is not None
        if self.card is None:
            self._button.checked = False
        else:
            self._label.text = qualityText(self.card)
            self._text.setMarkdown(self.card.text)
        self._onToggled(self._button.checked)

    def _onToggled(self, shown: bool) -> None:
        self._text.visible = shown and self.card is not None


def qualityText(card: ModelCard) -> str:
    """How good a model is: its results, and how many warnings there are."""
    lines = [f"{number}." for number in card.numbers if "dice" in number.casefold()]
    lines = lines or [_("How good it is on new cases was not measured.")]
    if card.warnings:
        lines.append(_("Warnings: {count}, under About.").format(count=len(card.warnings)))
    return " ".join(lines)
