"""Volumes, label maps and data lists: read, checked and written."""
