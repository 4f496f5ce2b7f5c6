"""The experiments in force, versioned: whoever changes them, every worker follows."""
