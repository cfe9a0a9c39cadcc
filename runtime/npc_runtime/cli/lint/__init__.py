"""What can be said of manifests and adapters without a cluster."""
