"""The store on disk: locations, shards, the commit, manifests, reading and verifying."""
