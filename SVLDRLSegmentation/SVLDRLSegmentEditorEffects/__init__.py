"""Effects for the Segment Editor, which loads them by their files; what they do is in SVLDRLSegmentationLib/editor."""
