"""`kubectl npc`: asks a cluster what its voices do and why, with the caller's own rights and nothing else."""
