"""Configuration, run folder and the stages of a run."""
