"""`python -m SVLDRLCore`: the same as the command `svldrl`."""

from SVLDRLCore.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
