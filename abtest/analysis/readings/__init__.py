"""From archived events to numbers a unit and day: what each variant did, before any statistics."""
