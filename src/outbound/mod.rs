//! Floor 3: one attempt over one upstream session.
