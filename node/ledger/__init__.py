"""The node's only memory besides the store: SQL tables, one function per fact."""
