"""Paths for the tests."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the root of the repository
