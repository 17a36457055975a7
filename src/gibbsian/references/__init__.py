"""Certified references, one JSON file per system; see `gibbsian.ensemble.reference`."""
