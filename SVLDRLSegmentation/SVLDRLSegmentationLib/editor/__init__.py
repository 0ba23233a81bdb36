"""The effect of the Segment Editor: its options, its task in the background, its preview."""
