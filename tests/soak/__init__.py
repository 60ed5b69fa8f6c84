"""Long trials of what must survive; ``python tests/soak`` runs them."""
