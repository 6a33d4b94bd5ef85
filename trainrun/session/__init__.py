"""One process of a run: started, resumed, or read again from its folder."""
