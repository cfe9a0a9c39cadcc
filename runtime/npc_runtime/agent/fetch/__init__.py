"""Fetching: where adapters and base models come from. `source` says what a source must do, `download` drives any of
them.
"""
