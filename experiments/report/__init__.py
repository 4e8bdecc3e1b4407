"""What runs have saved, in words, tables, figures and pages."""
