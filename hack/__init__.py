"""Developer tools: local cluster, demo, generators and benchmarks. Never shipped in the wheel."""
