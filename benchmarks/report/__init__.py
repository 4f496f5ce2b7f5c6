"""How quick a report's numbers are read from ten million events."""
