"""The served form of the stages: equal scores, and what an item alone decides is looked up."""
