"""What people ask of one lead, or of many, gathered in one read transaction. How it looks is for `mebae.programs`."""
