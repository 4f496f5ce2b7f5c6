"""From numbers a unit to effects: differences, intervals, tests and plans."""
