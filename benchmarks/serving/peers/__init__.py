"""The same recommender behind other servers, each in a process of its own."""
