"""Arrays of masks: borders, boxes, pieces, agreement."""
