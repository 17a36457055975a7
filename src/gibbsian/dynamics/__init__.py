"""Batched molecular dynamics and replica exchange."""
