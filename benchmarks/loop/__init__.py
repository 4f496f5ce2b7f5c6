"""The closed loop: serve, log what synthetic users do, train on the log, serve again."""
