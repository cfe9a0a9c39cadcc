"""Test suites; a regular package so that no other distribution's ``tests`` can be imported in its place."""
