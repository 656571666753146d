//! Floor 2: what outlives the process.
