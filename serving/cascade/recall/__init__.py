"""Recall: the few hundred candidates of a request out of the whole catalogue."""
