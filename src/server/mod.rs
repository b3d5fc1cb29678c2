//! Floor `server`: empty in the skeleton.
