"""``lazystore demo``: a made-up session of every kind, converted, opened, measured and drawn."""
