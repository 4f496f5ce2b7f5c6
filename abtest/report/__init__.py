"""From effects to a decision that people read."""
