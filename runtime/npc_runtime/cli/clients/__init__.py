"""The outside world: the API server, and what is reached through it. The only folder that imports `kubernetes`."""
