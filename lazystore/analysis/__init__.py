"""Numbers and pictures made of what a store holds; nothing here needs a screen."""
