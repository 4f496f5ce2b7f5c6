"""Timings. None of them decides whether a test passes."""
