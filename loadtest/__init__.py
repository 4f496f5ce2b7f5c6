"""Traffic over HTTP: the replay of real trips, and load."""
