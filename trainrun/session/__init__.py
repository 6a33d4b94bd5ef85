"""One process of a run: started, gone on with, or read again from its folder."""
