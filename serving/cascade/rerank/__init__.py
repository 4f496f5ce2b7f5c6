"""Rerank: the last order, by diversity, business rules and value."""
