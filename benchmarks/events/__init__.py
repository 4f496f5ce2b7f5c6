"""How fast events are taken in over HTTP, and moved into the archive."""
