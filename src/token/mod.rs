//! Floor 3: access tokens.
