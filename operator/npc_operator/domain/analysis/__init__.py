"""Whether a candidate is worse than what it would replace, decided from counts that may be looked at at any time."""
