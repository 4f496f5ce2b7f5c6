"""Leaderboard: every loss under the same sweep and budget, on RecFlow or on a shop."""
