"""Compiled decoders, one file a format: words in, events out, with a state that is carried on."""
