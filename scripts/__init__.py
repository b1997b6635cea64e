"""The command line. No algorithm lives here."""
