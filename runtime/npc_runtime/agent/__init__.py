"""The agent: the sidecar of one engine that fetches, inspects, loads and proves its adapters."""
