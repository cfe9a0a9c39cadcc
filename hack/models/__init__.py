"""Test models and a real engine for the demo, the tests and the benchmarks.

A seeded two-layer Llama with LoRA adapters small enough to make on the spot, hostile adapters, a real vLLM on the CPU
that answers with them, and a real S3 server that hands them out. Nothing here is part of the product.
"""
