"""Compiled kernels of the operators, each optional: a torch path does the same where one is missing."""
