"""Speed of the differentiable top-k operators, beside what one would use in their place."""
