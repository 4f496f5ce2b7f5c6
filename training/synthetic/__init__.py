"""A synthetic world with known truth: what a shown list earns can be computed exactly."""
