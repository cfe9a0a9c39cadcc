"""Proving again, beside all else, that a served name is the adapter it stands for."""
