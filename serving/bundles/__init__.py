"""Bundles: loading, swapping and trying them beside the one that answers."""
