"""The HTTP server: answers from bundles, logs what it answered and what users did."""
