"""HTTP: bodies in, bodies out, and who may ask."""
