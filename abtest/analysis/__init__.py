"""From archived events to effects: metrics, measures and statistics."""
