//! Floor 3: what is due when.
