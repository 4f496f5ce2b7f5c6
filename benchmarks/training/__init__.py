"""Training on RecFlow: how many requests a second, and what the number of ids costs."""
