"""The gateway of a region: an OpenAI-compatible door that sends each line to a pod where its adapter is proven.

It decides from one route table (pushed by the operator, kept on disk) and from what the agents say about their own
pods, so it serves with the operator and the API server away. The data port is a plain asyncio protocol; everything
that is not hot uses aiohttp on other ports.
"""
