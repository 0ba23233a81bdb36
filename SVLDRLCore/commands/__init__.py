"""One command a file; the command line and the Python API call the same functions."""
