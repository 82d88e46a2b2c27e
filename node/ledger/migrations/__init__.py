"""How the ledger came to its present shape, revision by revision."""
