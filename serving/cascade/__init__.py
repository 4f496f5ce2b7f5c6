"""The way of one request from the split to the logged answer."""
