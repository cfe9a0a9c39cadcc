"""The whole product on a cluster: storage, models, images, charts, and a load that checks every answer. Used by the
demo and the e2e tests.
"""
