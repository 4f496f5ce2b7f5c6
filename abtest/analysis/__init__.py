"""From archived events, or a table, to effects: metrics, readings of them, and statistics."""
