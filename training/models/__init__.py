"""Models: the stages of a cascade, scriptable, with their features computed inside."""
