//! Floor 4: logging.
