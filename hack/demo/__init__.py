"""`make demo`: the main job, shown from an empty machine to a voice swapped under load and an engine brought back."""
