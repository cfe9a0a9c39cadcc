"""One command each: read what it needs, let pure code say it, show it."""
