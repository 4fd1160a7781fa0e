"""How the figures of the handbook are read from what their commands did: a file a question, named as it is."""
