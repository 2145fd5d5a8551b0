"""From sources to stores: a pure plan, then a run that carries it out."""
