"""Device memory, streams, events and graphs: one small interface over three CUDA bindings."""
