//! Floor 1: OAuth 2.0 as values.
