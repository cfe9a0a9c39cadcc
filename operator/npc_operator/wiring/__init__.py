"""The composition root: the only place that knows all parts, and no part knows it.

Whatever only watches (kopf's streams into the store, health) runs from start to end, on standbys too, so that a new
leader is warm (`process`). Whatever acts (reconciles, long polls, Secrets, Events) belongs to a term of leadership and
ends with it (`term`). What decides comes in as `decisions`; the product's own are in `fleet`.
"""
