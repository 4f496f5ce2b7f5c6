"""Reports of the server: made in the background, read by the routes."""
