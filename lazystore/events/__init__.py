"""Event recordings in a store: exact windows, frames made of events, filters, export."""
