"""State that outlives a request: the store, users, and what all workers follow."""
