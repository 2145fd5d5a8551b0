"""Convert once, open at once, scrub anything."""
