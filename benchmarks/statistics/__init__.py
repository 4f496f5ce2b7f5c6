"""How often the statistics are right, on simulated experiments whose truth is known."""
