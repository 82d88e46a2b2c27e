"""Networks whose decision is its own explanation: it is a sum, and each place shows its term."""
