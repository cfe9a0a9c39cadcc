"""A real Kubernetes cluster on one Linux host, for the demo and the tests.

Runs on the system's ``python3`` (3.11 or later) with the standard library alone, because it is what
prepares a machine on which nothing is installed yet. :mod:`hack.cluster.api` is the door for Python
callers, ``python -m hack.cluster`` the one for people.
"""
