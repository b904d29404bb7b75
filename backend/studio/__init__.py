"""Everything that speaks to Label Studio."""
