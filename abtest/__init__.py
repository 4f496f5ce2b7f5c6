"""Online experiments: split traffic, log events, report revenue per variant."""
