"""Inspection of an adapter's bytes before any engine sees them; order and entry point are in `adapter`."""
