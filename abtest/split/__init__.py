"""From an experiment configuration to the variants of a unit."""
