"""Published tables, measured here: one JSON file per row, resumable."""
