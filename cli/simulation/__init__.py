"""Experiments of known truth, through the platform's own splitter, log, archive and report."""
