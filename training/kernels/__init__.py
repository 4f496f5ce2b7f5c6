"""Kernels of training: each compiled if it can be, with a torch path that does the same."""
