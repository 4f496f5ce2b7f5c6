"""Data: three source tables become a prepared dataset, and that becomes batches."""
