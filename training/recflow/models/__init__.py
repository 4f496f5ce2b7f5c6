"""Stages of the published cascades: DSSM, MLP and DIN, computed without their repetitions."""
