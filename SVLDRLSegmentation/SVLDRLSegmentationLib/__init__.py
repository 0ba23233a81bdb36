"""The library of the SVLDRLSegmentation module: one class a file, no heavy imports."""
