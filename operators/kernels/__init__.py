"""Kernels of the operators: each optional, with a torch path that does the same."""
