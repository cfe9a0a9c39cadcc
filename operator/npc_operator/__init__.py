"""The NPC fleet operator: keeps a region's tiers, adapters and gateway as its three kinds of objects say."""
