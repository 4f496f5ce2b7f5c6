"""RecFlow: cascades trained on what every stage of a real cascade saw, kept and dropped."""
