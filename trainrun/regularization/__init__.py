"""What keeps a model from memorising: any number of these at once, each of exactly one kind."""
