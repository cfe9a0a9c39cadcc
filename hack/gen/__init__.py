"""Everything that is written by a program and committed: CRDs, their chart, the API reference, RBAC and values schemas.

Committed, so that people can read it and `kubectl apply` it without our tools; generated, so that it cannot differ from
the types.
"""
