"""Plans a conversion, runs it, and computes what one pass over a recording can."""
