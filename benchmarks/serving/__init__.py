"""Serving a cascade over HTTP, beside what else one would serve it with."""
