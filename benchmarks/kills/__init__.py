"""Kills: processes of a server are killed under load; nothing acknowledged is lost or doubled."""
