"""Recipes and built-in systems, one YAML each."""
