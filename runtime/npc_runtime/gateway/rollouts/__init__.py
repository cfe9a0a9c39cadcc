"""Canaries as a gateway sees them: who gets the candidate, what became of its answers, and when to take it off alone.

Everything here belongs to one event loop; what several event loops or gateways saw is added up by who asks.
"""
