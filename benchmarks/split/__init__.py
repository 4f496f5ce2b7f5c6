"""Whether the split keeps its laws, agrees with GrowthBook, and what it costs."""
