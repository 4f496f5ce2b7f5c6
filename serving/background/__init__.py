"""The background process: archives, and does what else must not disturb the answers."""
