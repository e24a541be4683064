"""Where bytes live, and which of them to ask for."""
