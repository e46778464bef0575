"""The parts of the campaign, a module each."""
