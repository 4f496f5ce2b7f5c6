"""Training: from purchases to a bundle that can be served."""
