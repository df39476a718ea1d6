"""Changes to the rulebook's parameters, one at a time, each of which a worked case must notice."""
