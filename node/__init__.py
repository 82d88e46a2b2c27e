"""The running service: every wire, clock, disk and process of Pellucid is here."""
