"""From an event to files that reports read: journal, store, archive; nothing lost or doubled."""
