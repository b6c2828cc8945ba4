"""One archive for a board without a network: bundle, wheels, licences, checksums, installer."""
